package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// cronLine is five fields. What cron.ParseStandard reads besides, a zone or
// "@every 1h", would not be what the rest of the file means.
func cronLine(s string) (string, error) {
	fields := strings.Fields(s)
	line := strings.Join(fields, " ")
	if len(fields) != 5 || strings.ContainsAny(line, "=@") {
		return "", fmt.Errorf(`%s is not a cron line; it has five fields, minute, hour, day, month and weekday: "0 3 * * 0" is Sundays at 3:00`, quote(s))
	}
	schedule, err := parseCron(line)
	if err != nil {
		why, _, _ := strings.Cut(err.Error(), ": strconv.") // what Go calls it helps nobody
		return "", fmt.Errorf("%s is not a cron line: %s", quote(s), strings.Trim(quote(why), `"`))
	}
	if schedule.Next(cronEpoch()).IsZero() {
		return "", fmt.Errorf("%s never comes: no month has that day", quote(s))
	}
	return line, nil
}

// cronEpoch is any moment to judge cron lines from, always the same, so that a
// file that is valid today is valid tomorrow: the eve of a leap year.
func cronEpoch() time.Time { return time.Date(2023, time.December, 31, 23, 59, 0, 0, time.UTC) }

// leastGap is the least time between two of the next beginnings of a cron line.
func leastGap(line string) time.Duration {
	schedule, err := parseCron(line)
	if err != nil {
		return 0
	}
	const enough = 400 // a year of days: whatever a line does in turns it has done by then
	least := time.Duration(math.MaxInt64)
	at := schedule.Next(cronEpoch())
	for range enough {
		next := schedule.Next(at)
		if next.IsZero() {
			break
		}
		least = min(least, next.Sub(at))
		at = next
	}
	return least
}

// parseCron reads a cron line wherever one is needed, as crontab(5) has it: 7 is
// Sunday, too.
func parseCron(line string) (cron.Schedule, error) {
	fields := strings.Fields(line)
	if i := len(fields) - 1; i == 4 && strings.Contains(fields[i], "7") {
		days := strings.Split(fields[i], ",")
		for j := range days {
			days[j] = sundayIsZero(days[j])
		}
		fields[i] = strings.Join(days, ",")
	}
	return cron.ParseStandard(strings.Join(fields, " "))
}

// sundayIsZero writes weekdays up to 7 with those from 0 to 6: "7" is "0", and
// "5-7" is "5,6,0". Other ones stay.
func sundayIsZero(days string) string {
	span, every, stepped := strings.Cut(days, "/")
	from, to, ranged := strings.Cut(span, "-")
	first, err := strconv.ParseUint(from, 10, 8)
	if !ranged {
		to = from
	}
	step := uint64(1)
	if stepped && err == nil {
		step, err = strconv.ParseUint(every, 10, 8)
	}
	if err != nil || to != "7" || first > 7 || step == 0 {
		return days
	}
	var list []string
	for day := first; day <= 7; day += step {
		list = append(list, strconv.FormatUint(day%7, 10))
	}
	return strings.Join(list, ",")
}

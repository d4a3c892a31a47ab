package main

import (
	"fmt"
	"regexp"
	"time"

	"detour/config"
)

// clock reads and shows times in the configuration's time_zone.
type clock struct {
	now  time.Time
	zone *time.Location
}

// clockOf is the clock of the configuration at path, or the system's when that
// has mistakes.
func clockOf(path string) clock {
	c := clock{time.Now(), time.Local}
	if cfg, _, err := parse(path); err == nil {
		c.zone = cfg.TimeZone
	}
	return c
}

// timeOfDay is a time without a date.
var timeOfDay = regexp.MustCompile(`^([01]?\d|2[0-3]):[0-5]\d$`)

// moment reads RFC 3339, "2026-11-30 22:00", or "22:00", which is the next such
// time after the given one. later chooses between the two moments of a time that
// comes twice because the clocks go back.
func (c clock) moment(s string, after time.Time, later bool) (time.Time, error) {
	if !timeOfDay.MatchString(s) {
		t, err := config.ParseMoment(s, c.zone, later)
		if err != nil {
			return t, fmt.Errorf(`%w; a time of the day, "22:00", is the next such time`, err)
		}
		return t, nil
	}
	if len(s) < len("22:00") {
		s = "0" + s
	}
	// Tomorrow, unless it is still to come today; a day later where the clocks
	// jump over it.
	year, month, day := after.In(c.zone).Date()
	for i := 0; ; i++ {
		date := time.Date(year, month, day+i, 0, 0, 0, 0, time.UTC).Format(time.DateOnly)
		t, err := config.ParseMoment(date+"T"+s, c.zone, later)
		if err == nil && t.After(after) || i == 2 {
			return t, err
		}
	}
}

// show is a time for people: without the date when that is today's.
func (c clock) show(t time.Time) string {
	t = t.In(c.zone)
	form := "2006-01-02 15:04 MST"
	if t.Format(time.DateOnly) == c.now.In(c.zone).Format(time.DateOnly) {
		form = "15:04 MST"
	}
	return t.Format(form)
}

// duration is a flag in the configuration's notation of durations. It
// implements pflag.Value.
type duration struct {
	time.Duration
	given bool
}

func (d *duration) Set(s string) error {
	v, err := config.ParseDuration(s)
	d.Duration, d.given = v, err == nil
	return err
}

func (d *duration) String() string {
	if !d.given {
		return "" // pflag prints no default then
	}
	return d.Duration.String()
}

func (d *duration) Type() string { return "duration" }

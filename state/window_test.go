package state_test

import (
	"testing"
	"time"

	"detour/state"

	"github.com/robfig/cron/v3"
)

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Skipf("no time zone database: %v", err)
	}
	return loc
}

func schedule(t testing.TB, line string) cron.Schedule {
	t.Helper()
	s, err := cron.ParseStandard(line)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// In Sydney clocks go from 02:00 to 03:00 on 4 October 2026 and from 03:00 to
// 02:00 on 5 April 2026. Times are given with their offset, so that the two
// 02:30 of April differ.
func TestNearAcrossClockChanges(t *testing.T) {
	sydney := location(t, "Australia/Sydney")
	for _, test := range []struct {
		name        string
		cron        string
		length      time.Duration
		now         string
		from, until string
	}{
		{"a usual Sunday", "0 3 * * 0", 30 * time.Minute, "2026-03-01T02:00:00+11:00", "2026-03-01T03:00:00+11:00", "2026-03-01T03:30:00+11:00"},
		{"in force", "0 3 * * 0", 30 * time.Minute, "2026-03-01T03:29:59+11:00", "2026-03-01T03:00:00+11:00", "2026-03-01T03:30:00+11:00"},
		{"its end is not in it", "0 3 * * 0", 30 * time.Minute, "2026-03-01T03:30:00+11:00", "2026-03-08T03:00:00+11:00", "2026-03-08T03:30:00+11:00"},
		{"summer ends: the hour after it", "0 3 * * 0", 30 * time.Minute, "2026-04-05T02:59:00+11:00", "2026-04-05T03:00:00+10:00", "2026-04-05T03:30:00+10:00"},
		{"summer ends: 02:30 comes the first time", "30 2 * * *", 20 * time.Minute, "2026-04-05T02:00:00+11:00", "2026-04-05T02:30:00+11:00", "2026-04-05T02:50:00+11:00"},
		{"summer ends: and not a second time", "30 2 * * *", 20 * time.Minute, "2026-04-05T02:00:00+10:00", "2026-04-06T02:30:00+10:00", "2026-04-06T02:50:00+10:00"},
		{"summer ends: a window is as long as always", "30 2 * * *", 2 * time.Hour, "2026-04-05T03:00:00+10:00", "2026-04-05T02:30:00+11:00", "2026-04-05T03:30:00+10:00"},
		{"summer begins: 02:30 is skipped, not lost", "30 2 * * *", 20 * time.Minute, "2026-10-04T01:00:00+10:00", "2026-10-04T03:30:00+11:00", "2026-10-04T03:50:00+11:00"},
		{"summer begins: a window across it", "30 1 * * *", time.Hour, "2026-10-04T03:10:00+11:00", "2026-10-04T01:30:00+10:00", "2026-10-04T03:30:00+11:00"},
		{"summer begins: the next day is by the new time", "30 2 * * *", 20 * time.Minute, "2026-10-04T04:00:00+11:00", "2026-10-05T02:30:00+11:00", "2026-10-05T02:50:00+11:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := state.Plan{Cron: schedule(t, test.cron), For: test.length, Location: sydney}
			got, ok := plan.Near(at(t, test.now))
			if !ok || !got.From.Equal(at(t, test.from)) || !got.Until.Equal(at(t, test.until)) {
				t.Errorf("Near(%s) = %s to %s, %v; want %s to %s", test.now, got.From, got.Until, ok, test.from, test.until)
			}
		})
	}
}

// However the clock changes, a daily maintenance happens once a day and never
// overlaps itself.
func TestNearOnceADay(t *testing.T) {
	for _, zone := range []string{"Australia/Sydney", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe"} {
		loc := location(t, zone)
		for _, line := range []string{"0 0 * * *", "30 1 * * *", "15 2 * * *", "0 3 * * *", "59 23 * * *"} {
			plan := state.Plan{Cron: schedule(t, line), For: 10 * time.Minute, Location: loc}
			at := time.Date(2018, 1, 1, 0, 0, 0, 0, loc)
			seen, last := 0, time.Time{}
			for {
				w, ok := plan.Near(at)
				if !ok || w.From.Year() > 2018 {
					break
				}
				if !w.From.After(last) || w.From.Sub(last) < 22*time.Hour {
					t.Fatalf("%s %q: a window at %s follows that at %s", zone, line, w.From, last)
				}
				if last, at = w.From, w.Until; w.From.Year() == 2018 {
					seen++
				}
			}
			if seen != 365 {
				t.Errorf("%s %q: %d windows in 2018; want 365", zone, line, seen)
			}
		}
	}
}

func TestNear(t *testing.T) {
	once := state.Plan{From: in(time.Hour), Until: in(2 * time.Hour), Drain: 10 * time.Minute, Reason: "upgrade"}
	ended := once
	ended.Ended = in(55 * time.Minute) // in its drain
	early := once
	early.Ended = in(40 * time.Minute) // before its drain: another one was meant
	sundays := state.Plan{Cron: schedule(t, "0 3 * * 0"), For: time.Hour, Drain: 10 * time.Minute}
	sunday := time.Date(2026, 12, 6, 3, 0, 0, 0, time.UTC)
	endedSunday := sundays
	endedSunday.Ended = sunday.Add(20 * time.Minute)
	never := state.Plan{Cron: schedule(t, "0 3 30 2 *"), For: time.Hour}

	for _, test := range []struct {
		name string
		plan state.Plan
		at   time.Time
		from time.Time // zero = none
	}{
		{"ahead", once, now, once.From},
		{"in its drain", once, in(55 * time.Minute), once.From},
		{"past", once, once.Until, time.Time{}},
		{"long past", once, in(1000 * time.Hour), time.Time{}},
		{"ended in its drain", ended, in(56 * time.Minute), time.Time{}},
		{"ended before it began", early, in(56 * time.Minute), early.From},
		{"the next Sunday", sundays, now, sunday},
		{"in its drain by cron", sundays, sunday.Add(-5 * time.Minute), sunday},
		{"ended early, until the next", endedSunday, sunday.Add(30 * time.Minute), sunday.AddDate(0, 0, 7)},
		{"a clock set back after that", endedSunday, sunday.Add(-time.Hour), sunday.AddDate(0, 0, 7)},
		{"a day that there is not", never, now, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ok := test.plan.Near(test.at)
			if ok != !test.from.IsZero() || ok && !got.From.Equal(test.from) {
				t.Errorf("Near(%s) = %+v, %v; want one from %s", test.at, got, ok, test.from)
			}
		})
	}
}

func at(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

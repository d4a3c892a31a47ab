package main

import (
	"strings"
	"testing"
	"time"
)

func TestClockMoment(t *testing.T) {
	sydney, err := time.LoadLocation("Australia/Sydney")
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) time.Time {
		t.Helper()
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, tt := range []struct {
		name, now, in string
		later         bool
		want          string // "" = an error
	}{
		{"later today", "2026-11-30T21:00:00+11:00", "22:00", false, "2026-11-30T22:00:00+11:00"},
		{"not before this moment", "2026-11-30T22:00:00+11:00", "22:00", false, "2026-12-01T22:00:00+11:00"},
		{"one digit", "2026-11-30T21:00:00+11:00", "6:05", false, "2026-12-01T06:05:00+11:00"},
		{"the day is the zone's", "2026-11-30T20:00:00Z", "06:00", false, "2026-12-02T06:00:00+11:00"},
		{"tomorrow across the change", "2026-10-03T22:30:00+10:00", "22:00", false, "2026-10-04T22:00:00+11:00"},
		{"the clocks jump over it tomorrow", "2026-10-03T22:00:00+10:00", "02:30", false, "2026-10-05T02:30:00+11:00"},
		{"the clocks show it twice, begin", "2027-04-03T22:00:00+11:00", "02:30", false, "2027-04-04T02:30:00+11:00"},
		{"the clocks show it twice, end", "2027-04-03T22:00:00+11:00", "02:30", true, "2027-04-04T02:30:00+10:00"},
		{"between the two", "2027-04-04T02:45:00+11:00", "02:30", true, "2027-04-04T02:30:00+10:00"},
		{"a date", "2026-11-01T00:00:00Z", "2026-11-30 22:00", false, "2026-11-30T22:00:00+11:00"},
		{"a date in the past", "2026-12-01T00:00:00Z", "2026-11-30 22:00", false, "2026-11-30T22:00:00+11:00"},
		{"RFC 3339", "2026-11-01T00:00:00Z", "2026-11-30T22:00:00Z", false, "2026-11-30T22:00:00Z"},
		{"a date without a time", "2026-11-01T00:00:00Z", "2026-11-30", false, ""},
		{"no such hour", "2026-11-01T00:00:00Z", "24:00", false, ""},
		{"the date's clocks jump over it", "2026-10-01T00:00:00Z", "2026-10-04 02:30", false, ""},
		{"words", "2026-11-01T00:00:00Z", "tonight", false, ""},
	} {
		c := clock{at(tt.now), sydney}
		got, err := c.moment(tt.in, c.now, tt.later)
		if tt.want == "" {
			if err == nil || !strings.Contains(err.Error(), "22:00") {
				t.Errorf("%s: moment(%q) = %v, %v; want an error with an example", tt.name, tt.in, got, err)
			}
			continue
		}
		if err != nil || !got.Equal(at(tt.want)) {
			t.Errorf("%s: moment(%q) = %v, %v; want %s", tt.name, tt.in, got, err, tt.want)
		}
	}
}

func TestClockShow(t *testing.T) {
	zone := time.FixedZone("AEDT", 11*3600)
	c := clock{time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC), zone}
	for in, want := range map[time.Time]string{
		time.Date(2026, 11, 30, 12, 30, 0, 0, time.UTC): "23:30 AEDT",
		time.Date(2026, 11, 30, 13, 30, 0, 0, time.UTC): "2026-12-01 00:30 AEDT",
	} {
		if got := c.show(in); got != want {
			t.Errorf("show(%v) = %q; want %q", in, got, want)
		}
	}
}

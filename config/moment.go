package config

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // a router may have no zone files
)

// timeZone is a name of the IANA database; empty is the system's own zone.
func timeZone(s string) (*time.Location, error) {
	if s == "" {
		return time.Local, nil
	}
	if s != "Local" { // Go's word for ""
		if zone, err := time.LoadLocation(s); err == nil {
			return zone, nil
		}
	}
	return nil, fmt.Errorf(`%s is not a time zone; write for example "Australia/Sydney" or "UTC"`, quote(s))
}

// momentForm is TOML's date-time, where the offset, and since TOML 1.1 the
// seconds, may be absent.
var momentForm = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)?$`)

// moment is a date-time. Without an offset it is the zone's, and where the zone
// has it twice, because the clocks went back, the later one is taken or not.
func moment(to *time.Time, zone *time.Location, later bool) value {
	return value{"date-time", func(d *decoder, n *node) {
		if !d.want(n, "a date and time without quotes, such as 2026-11-30T22:00:00", kindDate) {
			return
		}
		t, err := ParseMoment(n.text, zone, later)
		if err != nil {
			d.fail(n, err)
			return
		}
		*to = t
	}}
}

// ParseMoment reads a date and time as the file has it, "2026-11-30T22:00" or
// with a space, with seconds and an offset or without. Without an offset it is
// the zone's, and where the zone has it twice, because the clocks went back, the
// later one is taken or not. A time that the clocks jump over is an error.
func ParseMoment(s string, zone *time.Location, later bool) (time.Time, error) {
	m := momentForm.FindStringSubmatch(s)
	if m == nil {
		return time.Time{}, fmt.Errorf("%s is not a date with a time; write for example 2026-11-30T22:00:00", quote(s))
	}
	const form = "2006-01-02T15:04:05"
	written := m[1] + "T" + m[2] + m[3]
	if m[3] == "" {
		written += ":00"
	}
	wall, err := time.Parse(form, written)
	switch {
	case err != nil:
		return time.Time{}, fmt.Errorf("%s does not exist in the calendar", quote(s))
	case wall.Year() < 2000 || wall.Year() > 2200: // a slip; and what is far off has no place in a time.Duration
		return time.Time{}, fmt.Errorf("%s is a year nobody plans for", quote(s))
	case m[4] == "":
		return inZone(wall, zone, later)
	}
	return time.Parse(form+"Z07:00", written+strings.ToUpper(m[4]))
}

// inZone returns when the zone's clocks show wall, which is given in UTC.
func inZone(wall time.Time, zone *time.Location, later bool) (time.Time, error) {
	y, mon, day := wall.Date()
	about := time.Date(y, mon, day, wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), zone)
	start, end := about.ZoneBounds()
	var found time.Time
	// The offsets in force around that time, the one before a change first: with
	// it, a time that comes twice is the earlier one.
	for _, near := range []time.Time{start.Add(-time.Second), about, end} {
		if near.Year() <= 1 {
			continue // the zone has no change on this side
		}
		_, offset := near.In(zone).Zone()
		t := wall.Add(-time.Duration(offset) * time.Second).In(zone)
		if _, o := t.Zone(); o == offset && (found.IsZero() || later && t.After(found) || !later && t.Before(found)) {
			found = t
		}
	}
	if found.IsZero() {
		return time.Time{}, fmt.Errorf("%s does not exist in %s: the clocks jump over it; write it with its offset, or another time", wall.Format("2006-01-02T15:04:05"), zone)
	}
	return found, nil
}

// endedTimes only checks the types: hosts and times are read when all hosts are known.
func endedTimes() value {
	return value{"table of date-times", func(d *decoder, n *node) {
		if !d.want(n, "a table such as { shop = 2026-11-30T23:00:00Z }", kindTable) {
			return
		}
		for _, m := range n.members {
			d.want(m, "a date and time without quotes, such as 2026-11-30T23:00:00Z", kindDate)
		}
	}}
}

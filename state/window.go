package state

import (
	"time"

	"github.com/robfig/cron/v3"
)

// Window is one occurrence of a maintenance: from its drain to its end.
type Window struct {
	From, Until time.Time     // offline, the end not included
	Drain       time.Duration // before From: running sessions may finish
	Reason      string
}

// Begin is when new visitors are turned away.
func (w Window) Begin() time.Time { return w.From.Add(-w.Drain) }

// Serving is what the window alone makes of a host at now.
func (w Window) Serving(now time.Time) Serving {
	switch {
	case now.Before(w.Begin()) || !now.Before(w.Until):
		return Online
	case now.Before(w.From):
		return Draining
	}
	return Offline
}

// Plan is one maintenance of one host: one window from From until Until, or,
// with Cron, a window of the length For whenever Cron says.
//
// Cron goes by the wall clock in Location. A time that the clock shows twice, when
// summer ends, counts once, the first time; a time that it skips, when summer
// begins, is moved as the clock was, so that no maintenance is lost. A window lasts
// For by a stopwatch, whatever the clock does.
type Plan struct {
	From, Until time.Time
	Cron        cron.Schedule  // of ParseStandard, without a zone of its own; nil = one window
	Location    *time.Location // of Cron; nil = UTC
	For, Drain  time.Duration
	Reason      string
	Ended       time.Time // windows that began until then, drain included, are over
}

// Near is the window in force at now, or in its drain; else the next one; false if
// there is none any more.
func (p Plan) Near(now time.Time) (Window, bool) {
	if p.Cron == nil {
		w := Window{p.From, p.Until, p.Drain, p.Reason}
		return w, p.ahead(w, now)
	}
	loc := p.Location
	if loc == nil {
		loc = time.UTC
	}
	// The schedule is asked in a zone without summer time, for the wall clock's
	// times, beginning a clock change before the oldest window that can matter.
	const clockChange = 3 * time.Hour // more than any zone has moved its clock by
	since := now
	if p.Ended.After(now) {
		since = p.Ended
	}
	wall := wallClock(since.Add(-p.For).In(loc), time.UTC).Add(-clockChange)
	for {
		if wall = p.Cron.Next(wall); wall.IsZero() {
			return Window{}, false // the schedule names a day that does not exist, such as 30 February
		}
		from := wallClock(wall, loc)
		w := Window{from, from.Add(p.For), p.Drain, p.Reason}
		if p.ahead(w, now) {
			return w, true
		}
	}
}

// lookBack is how long after the end of a window a gateway that starts still
// waits for the upstream: what was maintained may have been the machine that
// both run on.
const lookBack = 30 * time.Minute

// JustOver is a window that ended within the half hour before now.
func (p Plan) JustOver(now time.Time) (Window, bool) {
	w, ok := p.Near(now.Add(-lookBack))
	return w, ok && !now.Before(w.Until)
}

// ahead reports whether w is neither past nor ended early.
func (p Plan) ahead(w Window, now time.Time) bool {
	return now.Before(w.Until) && w.Begin().After(p.Ended)
}

// wallClock is when a clock in loc shows what t shows, to the second; the first
// time, if it does so twice.
func wallClock(t time.Time, loc *time.Location) time.Time {
	at := time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, loc)
	change, _ := at.ZoneBounds()
	if change.IsZero() {
		return at
	}
	_, offset := at.Zone()
	_, before := change.Add(-time.Second).Zone()
	if first := at.Add(time.Duration(offset-before) * time.Second); first.Before(change) {
		return first // a clock that was set back shows it twice
	}
	return at
}

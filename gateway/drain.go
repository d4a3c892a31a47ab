package gateway

import (
	"time"

	"detour/proxy"
	"detour/state"
)

// drain is how the running sessions of a host come to an end, whether the operator
// began it or a window. The zero value is none: the host is online, or its state
// has not been decided yet.
type drain struct {
	end     time.Time // of the operator's; zero = the operator did not ask for it
	assumed time.Time // when end was taken from the host's entry, because no command asked for another; zero = not

	begun  bool      // sessions were let through
	before uint64    // requests of sessions counted before
	heard  time.Time // a session counts as heard of at this time, if none was later
	over   bool      // nobody is let in again until the host has been online, except by another order
	cut    bool      // what is left has to be ended
}

const (
	// drainQuiet is how long nothing may be heard of running sessions before a drain
	// is over: people in a checkout click more often.
	drainQuiet = time.Minute
	// drainCheck is how often a drain is looked at.
	drainCheck = 5 * time.Second
	// watcherLead is how much earlier the watcher may follow an edit than the command
	// that made it asks for a reload.
	watcherLead = 5 * time.Second
)

// order has the drain end after length, as a command asked for.
func (d *drain) order(length time.Duration, now time.Time) {
	d.end, d.assumed, d.heard = now.Add(length), time.Time{}, now
}

// assume has the drain end after length, unless a command asks for another.
func (d *drain) assume(length time.Duration, now time.Time) {
	d.order(length, now)
	d.assumed = now
}

// reorder is the order of a command for a host that the operator has already taken
// offline. It changes a drain under way. One that is over begins again only where
// the watcher has just followed the command's own edit and assumed another.
func (d *drain) reorder(length time.Duration, now time.Time) {
	switch {
	case !d.over && now.Before(d.end):
		d.order(length, now)
	case d.justAssumed(now):
		*d = drain{}
		d.order(length, now)
	}
}

// justAssumed reports whether the command whose edit the watcher followed may
// still ask for its reload.
func (d *drain) justAssumed(now time.Time) bool {
	return !d.assumed.IsZero() && now.Sub(d.assumed) < watcherLead
}

// quiet reports whether no session has been heard of for long enough.
func (d *drain) quiet(stats *proxy.Stats, now time.Time) bool {
	heard := d.heard
	if last := stats.LastSession(); last.After(heard) {
		heard = last
	}
	return now.Sub(heard) >= drainQuiet
}

// follow notes that the host goes from one state to another. The drain is over when
// the host is offline by the operator's word or a window; an upstream that fails
// only interrupts it.
func (d *drain) follow(from state.Serving, to state.State, stats *proxy.Stats, now time.Time) {
	switch {
	case to.Serving == state.Online:
		*d = drain{}
	case to.Serving == state.Draining && from != state.Draining:
		if !d.begun {
			d.begun, d.before = true, stats.Sessions.Load()
		}
		d.heard = now // nobody could be heard of before
	case to.Serving == state.Offline && to.Cause != state.ByHealth && to.Cause != state.ByOverrun && !d.over:
		d.over, d.cut = true, d.cut || d.begun
	}
}

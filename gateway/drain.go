package gateway

import (
	"time"

	"detour/proxy"
	"detour/state"
)

// drain is how the running sessions of a host come to their end, whether the
// operator's word began it or a window. The zero value is none: the host is
// online, or it has not been decided.
type drain struct {
	end     time.Time // of the operator's; zero = the operator did not ask for it
	assumed time.Time // when end was taken from the host's entry, because no command asked for another; zero = not

	begun  bool      // sessions were let through
	before uint64    // requests of sessions counted until then
	heard  time.Time // a session counts as heard of at the latest then
	over   bool      // nobody is let in again before the host was online, except by another order
	cut    bool      // what is left is to be ended
}

const (
	// drainQuiet is how long no running session may be heard of before a drain
	// is over: who is in a checkout clicks more often.
	drainQuiet = time.Minute
	// drainCheck is how often a drain is looked at.
	drainCheck = 5 * time.Second
	// watcherLead is how much sooner than the command that wrote the file the
	// watcher may follow it.
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

// reorder is the order of a command for a host that the operator has taken
// offline already. It changes a drain under way. One that is over it begins
// again only in place of what was assumed a moment ago, for the command's own edit.
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
// still be heard of.
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

// follow notes that the host goes from a state to another. The drain ends with
// the host offline by the operator's word or a window. An upstream that fails
// only interrupts it.
func (d *drain) follow(from state.Serving, to state.State, stats *proxy.Stats, now time.Time) {
	switch {
	case to.Serving == state.Online:
		*d = drain{}
	case to.Serving == state.Draining && from != state.Draining:
		if !d.begun {
			d.begun, d.before = true, stats.Sessions.Load()
		}
		d.heard = now // nobody could be, before
	case to.Serving == state.Offline && to.Cause != state.ByHealth && to.Cause != state.ByOverrun && !d.over:
		d.over, d.cut = true, d.cut || d.begun
	}
}

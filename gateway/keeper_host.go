package gateway

import (
	"os"
	"time"

	"detour/config"
	"detour/proxy"
	"detour/state"
)

// kept is what is known of one host beyond the file.
type kept struct {
	serving    state.Serving // at the last look
	since      time.Time     // when it stopped being online; zero = online
	restored   time.Time     // what since is if the operator's word held when the gateway started
	drainUntil time.Time     // of the operator's word; zero = without
	drain      drainWatch    // of the drain under way, whoever began it
	cut        bool          // a drain is over, and what is left of it is to be ended
	window     state.Window  // in force at the last look; zero = none
	returning  time.Time     // since when a window is over and the upstream has not answered; zero = not
	told       bool          // that it overran
	reminded   time.Time     // that it was forgotten; zero = not since it went offline
	probed     probed        // what damper is about
	damper     state.Damper  // of its health
}

// probed is what a host's health is found by. What was known by another one
// means nothing.
type probed struct {
	pool   *proxy.Pool
	health config.Health
}

// condition is how a host is served, as everybody may see it.
type condition struct {
	state.State
	since  time.Time // when it stopped being online; zero = online
	before uint64    // requests of sessions that were counted when its drain began
}

// hostFacts is what decides about one host besides what is kept of it.
type hostFacts struct {
	host   *config.Host
	all    bool // [offline] all is for it
	plans  []state.Plan
	pool   *proxy.Pool
	stats  *proxy.Stats
	health state.Health // as found, undamped
}

// longestPeriod bounds how long a host stays in a state because its health
// changed a moment ago, whatever its interval is.
const longestPeriod = 2 * time.Minute

// settlingPeriod is for how long a host stays as it is after a change of its
// health: as long as its probes take to change it.
func settlingPeriod(h *config.Health) time.Duration {
	return min(time.Duration(max(h.Fails, h.Passes))*h.Interval, longestPeriod)
}

// decide gathers what state.Decide needs, asks it, and remembers what the next
// look has to know of this one.
func (k *kept) decide(f hostFacts, now time.Time) condition {
	in := state.Inputs{
		Flag:        f.host.Online,
		All:         f.all,
		DrainUntil:  k.drainUntil,
		AutoOffline: f.host.AutoOffline,
	}
	for _, plan := range f.plans {
		if w, ok := plan.Near(now); ok {
			in.Windows = append(in.Windows, w)
		}
	}
	var again time.Time // when to look, besides what the state says
	if f.host.Health != nil {
		if by := (probed{f.pool, *f.host.Health}); k.probed != by {
			k.probed, k.damper = by, state.Damper{}
		}
		again = k.damper.Follow(f.health, now, settlingPeriod(f.host.Health))
		in.Health = k.damper.Health()
	}
	k.followWindows(in, f.health, now)
	in.Returning = !k.returning.IsZero()

	s := state.Decide(in, now)
	if s.Serving != state.Draining {
		k.drain = drainWatch{}
	} else if in.Drained = k.drain.over(f.stats, now); in.Drained {
		s = state.Decide(in, now)
	} else {
		again = earliest(again, now.Add(drainCheck))
	}
	s.Next = earliest(s.Next, again)
	k.enter(s, now)
	return condition{State: s, since: k.since, before: k.drain.before}
}

// enter notes that the host is in s from now on.
func (k *kept) enter(s state.State, now time.Time) {
	switch {
	case s.Serving == state.Online:
		k.since, k.reminded = time.Time{}, time.Time{}
	case !k.since.IsZero():
	case !k.restored.IsZero() && (s.Cause == state.ByFlag || s.Cause == state.ByAll):
		k.since = k.restored
	default:
		k.since = now.Round(0) // to be compared with times of other clocks
	}
	k.restored = time.Time{}
	// Until it is cut it stays to be cut, unless it came back.
	k.cut = s.Serving == state.Offline && (k.cut || k.serving == state.Draining)
	k.serving = s.Serving
}

// followWindows notices that a window came to its end: the host then returns
// when its upstream answers. A window that the operator ended or took out of
// the file is not waited for, and neither is the upstream of a host that stays
// offline by the operator's word.
func (k *kept) followWindows(in state.Inputs, health state.Health, now time.Time) {
	before := k.window
	k.window = state.Window{}
	for _, w := range in.Windows {
		if w.Serving(now) == state.Offline && w.Until.After(k.window.Until) {
			k.window = w
		}
	}
	switch {
	case !k.window.Until.IsZero() || !in.Flag || in.All || health == state.Healthy:
		k.returning = time.Time{}
	case !before.Until.IsZero() && !now.Before(before.Until):
		k.returning, k.told = now, false
	}
}

// justOverFor is how long after the end of a window a gateway that starts
// still waits for the upstream: what was maintained may have been the machine
// that both run on.
const justOverFor = 30 * time.Minute

// justOver is a window that ended while the gateway was off; zero = none.
func justOver(plans []state.Plan, now time.Time) state.Window {
	for _, plan := range plans {
		if w, ok := plan.Near(now.Add(-justOverFor)); ok && !now.Before(w.Until) {
			return w
		}
	}
	return state.Window{}
}

const (
	// drainQuiet is how long no running session may be heard of before a drain
	// is over: who is in a checkout clicks more often.
	drainQuiet = time.Minute
	// drainCheck is how often a drain is looked at.
	drainCheck = 5 * time.Second
)

// drainWatch finds out whether a drain is over before its time. The zero value
// is one that has not begun.
type drainWatch struct {
	began  time.Time
	before uint64 // requests of sessions counted until then
	quiet  bool   // stays so for the rest of the drain
}

// over reports whether no session has been heard of for long enough.
func (d *drainWatch) over(stats *proxy.Stats, now time.Time) bool {
	if d.began.IsZero() {
		d.began, d.before = now, stats.Sessions.Load()
	}
	heard := d.began
	if last := stats.LastSession(); last.After(heard) {
		heard = last
	}
	d.quiet = d.quiet || now.Sub(heard) >= drainQuiet
	return d.quiet
}

// lastEdit is when the file at path was written last: a host that is offline
// by it has been so at least since about then. Zero = unknown.
func lastEdit(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil || info.ModTime().After(time.Now()) {
		return time.Time{}
	}
	return info.ModTime()
}

package gateway

import (
	"context"
	"os"
	"slices"
	"time"

	"detour/config"
	"detour/control"
	"detour/proxy"
	"detour/state"
)

// kept is what the keeper knows of one host beyond the file.
type kept struct {
	serving   state.Serving // at the last look
	since     time.Time     // when it stopped being online; zero = online
	starting  bool          // the gateway has started and not looked at it yet
	edited    time.Time     // then: when its file was written; zero = unknown
	drain     drain
	callOff   context.CancelFunc // stops the cut of what a drain left; nil = there was none
	window    state.Window       // in force at the last look; zero = none
	returning time.Time          // since when a window is over and the upstream has not answered; zero = not
	probed    probed             // what damper is about
	damper    state.Damper       // of its health
}

// probed is what a host's health was found with. When it changes, what was known
// before means nothing.
type probed struct {
	pool   *proxy.Pool
	health config.Health
}

// condition is how a host is served, for all to see.
type condition struct {
	state.State
	since  time.Time // when it stopped being online; zero = online
	before uint64    // requests of sessions that were counted when its drain began
}

// hostFacts is what decides about one host, besides what is kept of it.
type hostFacts struct {
	host   *config.Host
	all    bool // [offline] all is for it
	plans  []state.Plan
	pool   *proxy.Pool
	stats  *proxy.Stats
	health state.Health // as found, undamped
	good   time.Time    // the last good result that health comes from
}

// longestPeriod bounds how long a host stays in a state because its health
// changed a moment ago, whatever its interval is.
const longestPeriod = 2 * time.Minute

// settlingPeriod is how long a host stays as it is after its health has changed: as
// long as its probes take to change it.
func settlingPeriod(h *config.Health) time.Duration {
	return min(time.Duration(max(h.Fails, h.Passes))*h.Interval, longestPeriod)
}

// wish is whether the operator wants a host online.
type wish struct {
	online bool
	was    bool // before
	known  bool // the host was in the file before
}

// heed notes what the operator wants of h, and what a command asks for besides.
func (k *kept) heed(h *config.Host, w wish, o control.ReloadOptions, now time.Time) {
	length, asked := o.Drain[h.Name]
	ends := k.serving == state.Offline && slices.Contains(o.End, h.Name)
	switch {
	case w.online:
		k.drain.end = time.Time{}
		if w.known && !w.was || slices.Contains(o.Online, h.Name) {
			k.returning = time.Time{} // the operator's word, whatever the upstream does
		}
	case w.was && k.serving == state.Offline: // nobody is let in again
	case w.was && asked:
		k.drain.order(length, now)
	case w.was:
		k.drain.assume(h.Drain, now)
	case asked:
		k.drain.reorder(length, now)
	}
	if ends {
		k.drain.cut = true // what a flip without a drain left open
	}
}

// decide gathers the inputs of state.Decide, calls it, and remembers what the next
// look has to know of this one.
func (k *kept) decide(f hostFacts, now time.Time) condition {
	in := state.Inputs{
		Flag:        f.host.Online,
		All:         f.all,
		DrainUntil:  k.drain.end,
		Drained:     k.drain.over || k.serving == state.Draining && k.drain.quiet(f.stats, now),
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
	last := k.window
	k.followWindows(in, f, now)
	in.Returning = !k.returning.IsZero()

	s := state.Decide(in, now)
	if s.Serving == state.Draining {
		again = earliest(again, now.Add(drainCheck))
	}
	s.Next = earliest(s.Next, again)
	switch {
	case s.Serving == state.Online:
		k.since = time.Time{}
	case k.since.IsZero():
		k.since = k.began(s, in.Windows, last, now)
	}
	k.starting = false
	k.drain.follow(k.serving, s, f.stats, now)
	if s.Serving != state.Offline && k.callOff != nil {
		k.callOff()
		k.callOff = nil
	}
	k.serving = s.Serving
	return condition{State: s, since: k.since.Round(0), before: k.drain.before} // to be compared with times of other clocks
}

// began is when a host stopped being online. If the gateway has just started, that
// was before the start, so that bypass cookies of that time stay valid.
func (k *kept) began(s state.State, windows []state.Window, last state.Window, now time.Time) time.Time {
	if !k.starting {
		return now
	}
	var began time.Time
	switch s.Cause {
	case state.ByFlag, state.ByAll:
		began = k.edited
	case state.ByOverrun:
		began = last.Begin()
	case state.ByWindow:
		for _, w := range windows {
			if w.Serving(now) != state.Online {
				began = earliest(began, w.Begin())
			}
		}
	}
	if began.IsZero() {
		return now
	}
	return began
}

// followWindows notices that a window has ended: the host then returns when its
// upstream answers. Earlier answers do not count, since it may be restarting. There
// is no waiting after a window that the operator ended or took out of the file, nor
// for a host that stays offline by the operator's word.
func (k *kept) followWindows(in state.Inputs, f hostFacts, now time.Time) {
	before := k.window
	k.window = state.Window{}
	for _, w := range in.Windows {
		if w.Serving(now) == state.Offline && w.Until.After(k.window.Until) {
			k.window = w
		}
	}
	switch {
	case !k.window.Until.IsZero() || !in.Flag || in.All:
		k.returning = time.Time{}
	case !before.Until.IsZero() && !now.Before(before.Until):
		k.returning = now
	}
	if f.health == state.Healthy && f.good.After(k.returning) {
		k.returning = time.Time{}
	}
}

// justOver is a window that ended while the gateway was off; zero = none.
func justOver(plans []state.Plan, now time.Time) state.Window {
	for _, plan := range plans {
		if w, ok := plan.JustOver(now); ok {
			return w
		}
	}
	return state.Window{}
}

// lastEdit is when the file at path was last written: a host that it takes offline
// has been so at least since about then. Zero = unknown.
func lastEdit(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil || info.ModTime().After(time.Now()) {
		return time.Time{}
	}
	return info.ModTime()
}

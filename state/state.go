// Package state decides how a host is served. Decide is one pure function of
// the operator's flag, the maintenance windows, the upstream's health and the
// time; nothing else decides. Nobody here keeps a clock: time is an argument.
package state

import (
	"slices"
	"time"
)

// Serving is how a host meets its visitors, from the mildest to the strictest.
type Serving uint8

// The kinds of Serving.
const (
	Online   Serving = iota // everybody is proxied
	Draining                // running sessions are proxied, new visitors are not
	Offline                 // nobody is proxied
)

// String is the word of status, logs and notices.
func (s Serving) String() string { return [...]string{"online", "draining", "offline"}[s] }

// Cause says why a host is not online.
type Cause string

// The Causes, by weight: of two with the same effect, the first one is given.
const (
	ByFlag    Cause = "flag"    // the operator took the host offline
	ByAll     Cause = "all"     // … or all hosts
	ByWindow  Cause = "window"  // a maintenance window
	ByOverrun Cause = "overran" // a window is over, but the upstream has not answered since
	ByHealth  Cause = "health"  // the upstream is unhealthy and auto_offline is set
)

// Health is what is known about an upstream, or about all of a host's.
type Health uint8

// The kinds of Health.
const (
	Unknown Health = iota // not probed yet: it is tried
	Healthy
	Unhealthy
)

// String is the word of status, logs and notices.
func (h Health) String() string { return [...]string{"unknown", "healthy", "unhealthy"}[h] }

// Inputs is everything that a host's state depends on, except for the time.
type Inputs struct {
	Flag        bool      // the operator's: true = online
	All         bool      // the operator took all hosts offline, and this is one of them
	DrainUntil  time.Time // Flag or All took it off with a drain that ends then; zero = without
	Windows     []Window  // those near now; no other matters
	Drained     bool      // no running session is left: a drain is over before its time
	Returning   bool      // a window ended and the upstream has not answered since
	Health      Health
	AutoOffline bool // Unhealthy takes the host offline
}

// State is how a host is served, and why.
type State struct {
	Serving    Serving
	Cause      Cause     // "" while Online
	Until      time.Time // the announced end; zero = nobody knows
	DrainUntil time.Time // while Draining: nobody is proxied from then on, at the latest
	Reason     string    // the operator's words; they may hold anything
	Next       time.Time // when the state may differ although no input did; zero = never
}

// Decide says how a host is served at now. Of all causes that apply the strictest
// wins, and of equally strict ones the first in the list of Causes. Every drain is
// over when one is, or when a window is in force.
func Decide(in Inputs, now time.Time) State {
	var s State
	var drainUntil time.Time
	heed := func(c State) {
		if c.Serving == Draining && (drainUntil.IsZero() || c.DrainUntil.Before(drainUntil)) {
			drainUntil = c.DrainUntil
		}
		if c.Serving > s.Serving {
			s = c
		} else if c.Serving == s.Serving && c.Cause == s.Cause && c.Until.After(s.Until) {
			s.Until, s.Reason = c.Until, c.Reason // of several windows the last end is the real one
		}
	}
	drained := in.Drained || slices.ContainsFunc(in.Windows, func(w Window) bool { return w.Serving(now) == Offline })
	operator := State{Serving: Offline}
	if now.Before(in.DrainUntil) && !drained {
		operator = State{Serving: Draining, DrainUntil: in.DrainUntil}
	}
	if !in.Flag {
		operator.Cause = ByFlag
		heed(operator)
	}
	if in.All {
		operator.Cause = ByAll
		heed(operator)
	}
	for _, w := range in.Windows {
		c := State{Serving: w.Serving(now), Cause: ByWindow, Until: w.Until, Reason: w.Reason}
		if c.Serving == Draining {
			c.DrainUntil = w.From
			if drained {
				c.Serving, c.DrainUntil = Offline, time.Time{}
			}
		}
		heed(c)
	}
	if in.Returning {
		heed(State{Serving: Offline, Cause: ByOverrun})
	}
	if in.AutoOffline && in.Health == Unhealthy {
		heed(State{Serving: Offline, Cause: ByHealth})
	}
	switch s.Serving {
	case Online:
		s = State{}
	case Draining:
		s.DrainUntil = drainUntil
	}
	s.Next = next(in, now)
	return s
}

// next is the first moment after now at which something begins or ends.
func next(in Inputs, now time.Time) time.Time {
	var first time.Time
	consider := func(t time.Time) {
		if t.After(now) && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	if !in.Flag || in.All {
		consider(in.DrainUntil)
	}
	for _, w := range in.Windows {
		consider(w.Begin())
		consider(w.From)
		consider(w.Until)
	}
	return first
}

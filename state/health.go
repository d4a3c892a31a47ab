package state

import "time"

// Streak finds an upstream's health from single results: a number of fails or
// passes in a row changes it, and a result of the other kind begins the count anew.
// For an unknown upstream the first pass is enough. The zero value is Unknown; it
// must not be used by several goroutines at once.
type Streak struct {
	health Health
	fails  int // in a row
	passes int
}

// Health is what the results so far say.
func (s *Streak) Health() Health { return s.health }

// Add counts one result and reports whether the health changed by it.
func (s *Streak) Add(passed bool, fails, passes int) bool {
	before := s.health
	if passed {
		s.fails, s.passes = 0, s.passes+1
		if s.health == Unknown || s.passes >= passes {
			s.health = Healthy
		}
	} else {
		s.fails, s.passes = s.fails+1, 0
		if s.fails >= fails {
			s.health = Unhealthy
		}
	}
	return s.health != before
}

// Overall is the health of a host with several upstreams: healthy when one is,
// unhealthy when all are.
func Overall(members []Health) Health {
	overall := Unhealthy
	for _, h := range members {
		if h == Healthy {
			return Healthy
		}
		if h == Unknown {
			overall = Unknown
		}
	}
	if len(members) == 0 {
		return Unknown
	}
	return overall
}

// Damper follows a health that may flap: after each change it stays for a period.
// The zero value is Unknown; it must not be used by several goroutines
// at once.
type Damper struct {
	health  Health
	changed time.Time // between Healthy and Unhealthy; zero = never
}

// Health is what the Damper says now.
func (d *Damper) Health() Health { return d.health }

// Follow takes the health that was found at now. If the period holds a change back,
// wait is when to call again; zero = it does not.
func (d *Damper) Follow(found Health, now time.Time, period time.Duration) (wait time.Time) {
	if found == d.health {
		return time.Time{}
	}
	// A clock that was set back must not hold a host for longer than a period.
	if end := d.changed.Add(period); now.Before(end) && !now.Before(d.changed) {
		return end
	}
	if d.health != Unknown || found == Unhealthy {
		d.changed = now
	}
	d.health = found
	return time.Time{}
}

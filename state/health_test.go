package state_test

import (
	"testing"
	"time"

	"detour/state"
)

func TestStreak(t *testing.T) {
	const fails, passes = 3, 2
	for _, test := range []struct {
		name    string
		results string // + passed, - failed
		want    string // after each: ? unknown, h healthy, u unhealthy
	}{
		{"the first pass is enough", "+", "h"},
		{"unknown until it failed often enough", "---", "??u"},
		{"not in a row", "+--+--+--", "hhhhhhhhh"},
		{"in a row", "+---", "hhhu"},
		{"back after passes in a row", "---+-++", "??uuuuh"},
		{"the count begins anew after a change", "---++--+---", "??uuhhhhhhu"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s state.Streak
			got, before := "", s.Health()
			for _, r := range test.results {
				changed := s.Add(r == '+', fails, passes)
				if changed != (s.Health() != before) {
					t.Errorf("after %q: Add() = %v, but %v became %v", got, changed, before, s.Health())
				}
				before = s.Health()
				got += string("?hu"[s.Health()])
			}
			if got != test.want {
				t.Errorf("health after %q = %q; want %q", test.results, got, test.want)
			}
		})
	}
}

func TestOverall(t *testing.T) {
	const unknown, healthy, unhealthy = state.Unknown, state.Healthy, state.Unhealthy
	for _, test := range []struct {
		in   []state.Health
		want state.Health
	}{
		{nil, unknown},
		{[]state.Health{unhealthy, healthy}, healthy},
		{[]state.Health{unhealthy, unknown}, unknown},
		{[]state.Health{unknown, unhealthy, healthy}, healthy},
		{[]state.Health{unhealthy, unhealthy}, unhealthy},
	} {
		if got := state.Overall(test.in); got != test.want {
			t.Errorf("Overall(%v) = %v; want %v", test.in, got, test.want)
		}
	}
}

// An upstream that flaps every second moves its host once a period at most,
// and however long it flapped, the host follows within a period.
func TestDamperHoldsStill(t *testing.T) {
	const period = 30 * time.Second
	var d state.Damper
	d.Follow(state.Healthy, now, period)
	var last time.Time
	changes := 0
	for i := range 600 {
		found := state.Unhealthy
		if i%2 == 1 {
			found = state.Healthy
		}
		at, before := in(time.Duration(i)*time.Second), d.Health()
		wait := d.Follow(found, at, period)
		if (d.Health() == found) != wait.IsZero() {
			t.Fatalf("Follow(%v) = %v although it says %v", found, wait, d.Health())
		}
		if d.Health() != before {
			if !last.IsZero() && at.Sub(last) < period {
				t.Fatalf("changed at %s and again at %s", last, at)
			}
			last, changes = at, changes+1
		}
	}
	if changes < 2 {
		t.Errorf("%d changes in ten minutes: it does not follow at all", changes)
	}
	end := in(700 * time.Second)
	if d.Follow(state.Unhealthy, end, period); d.Health() != state.Unhealthy {
		t.Errorf("Health() = %v after a quiet period; want what was found", d.Health())
	}
	if d.Follow(state.Healthy, in(-time.Hour), period); d.Health() != state.Healthy {
		t.Error("a clock that was set back holds the host")
	}
}

// The first failure of a host that just became known is not held back.
func TestDamperFirstChange(t *testing.T) {
	var d state.Damper
	d.Follow(state.Healthy, now, time.Minute)
	if d.Follow(state.Unhealthy, in(time.Second), time.Minute); d.Health() != state.Unhealthy {
		t.Errorf("Health() = %v; want unhealthy at once", d.Health())
	}
}

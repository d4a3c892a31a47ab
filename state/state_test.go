package state_test

import (
	"testing"
	"time"

	"detour/state"

	"github.com/google/go-cmp/cmp"
)

var now = time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC)

func in(d time.Duration) time.Time { return now.Add(d) }

// TestDecideEverything goes through all combinations of what Decide hears. The
// rules stand here as an operator would say them: the first that applies wins.
func TestDecideEverything(t *testing.T) {
	windows := map[string][]state.Window{
		"none":     nil,
		"far":      {{From: in(time.Hour), Until: in(2 * time.Hour), Drain: time.Minute}},
		"drain":    {{From: in(time.Minute), Until: in(time.Hour), Drain: 2 * time.Minute, Reason: "upgrade"}},
		"in force": {{From: in(-time.Minute), Until: in(time.Hour), Drain: 2 * time.Minute, Reason: "upgrade"}},
		"past":     {{From: in(-time.Hour), Until: now}},
	}
	both := []bool{false, true}
	cases := 0
	for _, flag := range both {
		for _, all := range both {
			for _, drain := range []time.Time{{}, in(-time.Second), in(time.Minute)} {
				for window, near := range windows {
					for _, drained := range both {
						for _, returning := range both {
							for _, health := range []state.Health{state.Unknown, state.Healthy, state.Unhealthy} {
								for _, auto := range both {
									input := state.Inputs{Flag: flag, All: all, DrainUntil: drain, Windows: near, Drained: drained, Returning: returning, Health: health, AutoOffline: auto}
									draining := drain == in(time.Minute) && !drained && window != "in force"
									want := state.State{}
									switch {
									case !flag && !draining:
										want.Serving, want.Cause = state.Offline, state.ByFlag
									case all && !draining:
										want.Serving, want.Cause = state.Offline, state.ByAll
									case window == "in force" || window == "drain" && drained:
										want = state.State{Serving: state.Offline, Cause: state.ByWindow, Until: in(time.Hour), Reason: "upgrade"}
									case returning:
										want.Serving, want.Cause = state.Offline, state.ByOverrun
									case auto && health == state.Unhealthy:
										want.Serving, want.Cause = state.Offline, state.ByHealth
									case !flag:
										want = state.State{Serving: state.Draining, Cause: state.ByFlag, DrainUntil: drain}
									case all:
										want = state.State{Serving: state.Draining, Cause: state.ByAll, DrainUntil: drain}
									case window == "drain":
										want = state.State{Serving: state.Draining, Cause: state.ByWindow, Until: in(time.Hour), DrainUntil: in(time.Minute), Reason: "upgrade"}
									}
									got := state.Decide(input, now)
									got.Next = time.Time{} // TestDecideNext
									if diff := cmp.Diff(want, got); diff != "" {
										t.Fatalf("Decide(%+v) (-want +got):\n%s", input, diff)
									}
									cases++
								}
							}
						}
					}
				}
			}
		}
	}
	if want := 2 * 2 * 3 * 5 * 2 * 2 * 3 * 2; cases != want {
		t.Errorf("%d combinations were tried; want %d", cases, want)
	}
}

func TestDecideNext(t *testing.T) {
	window := state.Window{From: in(time.Hour), Until: in(2 * time.Hour), Drain: 10 * time.Minute}
	for _, test := range []struct {
		name string
		in   state.Inputs
		at   time.Time
		want time.Time
	}{
		{"nothing ahead", state.Inputs{Flag: true}, now, time.Time{}},
		{"a drain begins", state.Inputs{Flag: true, Windows: []state.Window{window}}, now, window.Begin()},
		{"a window begins", state.Inputs{Flag: true, Windows: []state.Window{window}}, window.Begin(), window.From},
		{"a window ends", state.Inputs{Flag: true, Windows: []state.Window{window}}, window.From, window.Until},
		{"a window is over", state.Inputs{Flag: true, Windows: []state.Window{window}}, window.Until, time.Time{}},
		{"the flag's drain ends first", state.Inputs{DrainUntil: in(time.Minute), Windows: []state.Window{window}}, now, in(time.Minute)},
		{"a drain of a host that came back", state.Inputs{Flag: true, DrainUntil: in(time.Minute)}, now, time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := state.Decide(test.in, test.at).Next; !got.Equal(test.want) {
				t.Errorf("Decide().Next = %v; want %v", got, test.want)
			}
		})
	}
}

// Of several windows in force the last end is announced: that is when visitors
// can come back.
func TestDecideTellsTheLastEnd(t *testing.T) {
	long := state.Window{From: in(-time.Hour), Until: in(3 * time.Hour), Reason: "disks"}
	short := state.Window{From: in(-time.Minute), Until: in(time.Hour), Reason: "database"}
	for _, windows := range [][]state.Window{{long, short}, {short, long}} {
		got := state.Decide(state.Inputs{Flag: true, Windows: windows}, now)
		if got.Until != long.Until || got.Reason != long.Reason {
			t.Errorf("Decide() = %+v; want the end and reason of %+v", got, long)
		}
	}
}

// Of several drains the first end counts: nobody is proxied after it.
func TestDecideTellsTheFirstEndOfADrain(t *testing.T) {
	sooner := state.Window{From: in(2 * time.Minute), Until: in(time.Hour), Drain: time.Hour}
	later := state.Window{From: in(4 * time.Minute), Until: in(2 * time.Hour), Drain: time.Hour}
	for _, test := range []struct {
		name string
		in   state.Inputs
		want time.Time
	}{
		{"the flag's and a window's", state.Inputs{DrainUntil: in(10 * time.Minute), Windows: []state.Window{sooner}}, sooner.From},
		{"two windows'", state.Inputs{Flag: true, Windows: []state.Window{later, sooner}}, sooner.From},
		{"the flag's is the first", state.Inputs{DrainUntil: in(time.Minute), Windows: []state.Window{sooner}}, in(time.Minute)},
	} {
		if got := state.Decide(test.in, now); got.Serving != state.Draining || !got.DrainUntil.Equal(test.want) {
			t.Errorf("%s: Decide() = %+v; want draining until %s", test.name, got, test.want)
		}
	}
}

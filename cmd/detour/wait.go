package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"detour/control"
)

// waitInterval is how often the gateway is asked for the live count: often enough
// to look alive, and no load for it.
const waitInterval = 500 * time.Millisecond

// awaitQuiet shows a live count until the hosts that should be offline are, and
// nothing of theirs is in flight any more apart from bypassed requests. The end of
// ctx ends only the waiting.
func (p *program) awaitQuiet(ctx context.Context, f *flip) (control.Status, error) {
	display := liveLine{p: p, terminal: isTerminal(p.stderr)}
	defer display.end()
	tick := time.NewTicker(waitInterval)
	defer tick.Stop()
	for {
		st, err := f.gateway.client.Status(ctx)
		if ctx.Err() != nil {
			return st, f.notAwaited(ctx)
		}
		if err != nil {
			return st, err
		}
		text, quiet, err := f.progress(st)
		if err != nil {
			return st, err
		}
		display.show(text)
		if quiet {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, f.notAwaited(ctx)
		case <-tick.C:
		}
	}
}

// notAwaited is the error of an operator's ending the wait. It says what goes on.
func (f *flip) notAwaited(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second) // an operator who pressed Ctrl-C
	defer cancel()
	goesOn := "what is in flight goes on"
	if st, err := f.gateway.client.Status(ctx); err == nil && slices.ContainsFunc(f.hosts, func(c flipped) bool {
		h := hostOf(st, c.host)
		return h != nil && c.want != "online" && h.State == "draining"
	}) {
		goesOn = "the drain goes on"
	}
	return &operatorError{errors.New("not waited to the end; " + goesOn), "detour status", exitFailed}
}

// progress sums up what is left, and reports whether that is nothing.
func (f *flip) progress(st control.Status) (text string, quiet bool, err error) {
	var sum control.Host
	var end time.Time
	quiet = true
	draining := 0
	for _, c := range f.hosts {
		h := hostOf(st, c.host)
		if c.want == "online" || h == nil {
			continue
		}
		if h.State == "online" {
			return "", false, &operatorError{fmt.Errorf("%s is online again: somebody has changed that", h.Host), "detour status", exitFailed}
		}
		if h.State == "draining" {
			draining++
			end = latest(end, h.DrainUntil)
		}
		quiet = quiet && h.State == "offline" && h.InFlight == 0
		sum.InFlight += h.InFlight
		sum.Bypassed += h.Bypassed
		sum.Sessions += h.Sessions
		sum.Streams += h.Streams
	}
	switch draining {
	case 0:
		return fmt.Sprintf("offline: %s in flight, %s open", inFlight(&sum), count(int(sum.Streams), "stream")), quiet, nil
	case 1:
		return fmt.Sprintf("draining until %s: %s", f.clock.show(end), counts(&sum)), false, nil
	}
	return fmt.Sprintf("%d hosts draining until %s: %s", draining, f.clock.show(end), counts(&sum)), false, nil
}

// liveLine is one line on stderr that changes in place on a terminal, and is
// printed anew elsewhere.
type liveLine struct {
	p        *program
	terminal bool
	last     string
}

func (l *liveLine) show(text string) {
	if text == l.last {
		return
	}
	if l.terminal {
		// Spaces over what was longer before.
		fmt.Fprint(l.p.stderr, "\r", text, strings.Repeat(" ", max(0, len(l.last)-len(text))))
	} else {
		fmt.Fprintln(l.p.stderr, text)
	}
	l.last = text
}

// end leaves the last text standing.
func (l *liveLine) end() {
	if l.terminal && l.last != "" {
		fmt.Fprintln(l.p.stderr)
	}
}

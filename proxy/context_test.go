package proxy

import (
	"context"
	"errors"
	"testing"
	"time"
)

// onlyAfterFunc is a request's context of the engine, whose Done nobody may ask for.
type onlyAfterFunc struct {
	context.Context
	t     *testing.T
	after func()
}

func (c *onlyAfterFunc) Done() <-chan struct{} {
	c.t.Error("somebody asked for Done")
	return nil
}

func (c *onlyAfterFunc) AfterFunc(f func()) (stop func() bool) {
	c.after = f
	return func() bool {
		waits := c.after != nil
		c.after = nil
		return waits
	}
}

func TestForwardingContext(t *testing.T) {
	type key struct{}
	for _, apart := range []bool{false, true} {
		parent, end := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		f := newForwarding()
		f.parent, f.apart = parent, apart
		ended := make(chan string, 8)
		expect := func(want string) {
			t.Helper()
			select {
			case got := <-ended:
				if got != want {
					t.Errorf("apart %v: %s ended; want %s", apart, got, want)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("apart %v: no end of %s", apart, want)
			}
		}
		stopFirst := f.AfterFunc(func() { ended <- "first" })
		if !stopFirst() || stopFirst() {
			t.Errorf("apart %v: stop did not tell whether it came in time", apart)
		}
		if f.Value(key{}) != "value" || f.Err() != nil {
			t.Errorf("apart %v: Value = %v, Err = %v", apart, f.Value(key{}), f.Err())
		}
		stop := f.AfterFunc(func() { ended <- "one" })
		child, endChild := context.WithTimeout(f, time.Hour)
		defer endChild()
		if apart {
			f.cancel()
			f.cancel()
			expect("one")
			if parent.Err() != nil {
				t.Error("cancel ended the client's request")
			}
		}
		end()
		if !apart {
			expect("one")
		}
		for _, ctx := range []context.Context{f, child} {
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Second):
				t.Fatalf("apart %v: not done", apart)
			}
			if !errors.Is(ctx.Err(), context.Canceled) || context.Cause(ctx) == nil {
				t.Errorf("apart %v: Err = %v, Cause = %v", apart, ctx.Err(), context.Cause(ctx))
			}
		}
		if stop() {
			t.Errorf("apart %v: stop came in time although the function ran", apart)
		}
		f.AfterFunc(func() { ended <- "late" })
		expect("late")
		select {
		case what := <-ended:
			t.Errorf("apart %v: %s ended twice", apart, what)
		default:
		}
	}
}

// The end of the client's request reaches those who wait for a forwarding that
// is apart, and each only once.
func TestForwardingEndsWithItsRequest(t *testing.T) {
	parent, end := context.WithCancel(t.Context())
	f := newForwarding()
	f.parent, f.apart = parent, true
	ended := make(chan struct{}, 8)
	for range 3 {
		f.AfterFunc(func() { ended <- struct{}{} })
	}
	end()
	for range 3 {
		<-ended
	}
	<-f.Done()
	f.cancel()
	if len(ended) != 0 {
		t.Error("a function was called twice")
	}
}

// Neither the way of a request nor its cut asks the engine's context for more
// than it gives for nothing.
func TestForwardingAsksForNothing(t *testing.T) {
	for _, apart := range []bool{false, true} {
		parent := &onlyAfterFunc{Context: context.Background(), t: t}
		f := newForwarding()
		f.parent, f.apart = parent, apart
		called := make(chan struct{})
		stop := f.AfterFunc(func() { close(called) })
		if parent.after == nil || f.Err() != nil || f.Value(0) != nil {
			t.Errorf("apart %v: Err = %v", apart, f.Err())
		}
		if apart {
			f.cancel()
			<-called
		}
		if stop() == apart {
			t.Errorf("apart %v: stop = %v", apart, !apart)
		}
	}
}

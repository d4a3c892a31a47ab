package lifetime_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"detour/engine/lifetime"
)

type key struct{}

func TestContextEnds(t *testing.T) {
	var c lifetime.Context
	if c.Begin(context.WithValue(context.Background(), key{}, "base"), nil); c.Err() != nil || c.Value(key{}) != "base" {
		t.Errorf("at first: %v, value %v; want no end, and the base's value", c.Err(), c.Value(key{}))
	}
	before := runtime.NumGoroutine()
	child, cancel := context.WithCancel(struct{ context.Context }{&c})
	defer cancel()
	if n := runtime.NumGoroutine(); n > before {
		t.Errorf("a child took %d goroutines; want none", n-before)
	}
	if c.Value(key{}) != "base" {
		t.Errorf("value with a child: %v", c.Value(key{}))
	}
	c.Cancel()
	<-c.Done()
	<-child.Done()
	c.Cancel() // again is nothing
	if !errors.Is(c.Err(), context.Canceled) || !errors.Is(child.Err(), context.Canceled) {
		t.Errorf("ended with %v, its child with %v", c.Err(), child.Err())
	}
	if c.Release() {
		t.Error("released, although somebody has its Done")
	}

	var late lifetime.Context
	late.Begin(context.Background(), nil)
	late.Cancel()
	<-late.Done()
}

func TestAfterFunc(t *testing.T) {
	ran := make(chan int, 10)
	for round := range 3 {
		var c lifetime.Context
		c.Begin(context.Background(), nil)
		stops := make([]func() bool, 4)
		for i := range stops {
			stops[i] = lifetime.AfterFunc(&c, func() { ran <- i })
		}
		for _, i := range []int{round, 3} {
			if !stops[i]() || stops[i]() {
				t.Errorf("stop of callback %d in round %d; want true once", i, round)
			}
		}
		c.Cancel()
		if sum := <-ran + <-ran; sum != 0+1+2-round {
			t.Errorf("round %d ran others than it should", round)
		}
		if c.Release() {
			t.Error("released after callbacks ran")
		}
		if stops[(round+1)%3]() {
			t.Error("stopped a callback that ran")
		}
		late := make(chan struct{})
		if c.AfterFunc(func() { close(late) })() {
			t.Error("stopped a callback that was too late")
		}
		<-late
	}
}

func TestReleasedServesAgain(t *testing.T) {
	var c lifetime.Context
	c.Begin(context.Background(), nil)
	if n := testing.AllocsPerRun(100, func() {
		stop := lifetime.AfterFunc(&c, runtime.GC)
		if c.Release() {
			t.Error("released while a callback waits")
		}
		stop()
		c.Cancel()
		if !c.Release() || c.Err() == nil || c.Value(key{}) != nil {
			t.Error("not released, or not over")
		}
		c.Begin(context.Background(), nil)
	}); n != 0 {
		t.Errorf("a request costs %v allocations; want 0", n)
	}
	if c.Err() != nil {
		t.Errorf("begun again: %v", c.Err())
	}
}

// Who asks a context that is long over leaves nothing behind for the next
// request.
func TestAskedLate(t *testing.T) {
	var c lifetime.Context
	c.Begin(context.Background(), nil)
	c.Cancel()
	if !c.Release() {
		t.Fatal("not released")
	}
	<-c.Done()
	late := make(chan struct{})
	c.AfterFunc(func() { close(late) })
	<-late

	c.Begin(context.Background(), nil)
	child, cancel := context.WithCancel(&c)
	defer cancel()
	if c.Err() != nil || child.Err() != nil {
		t.Errorf("the next request's context has ended: %v, its child: %v", c.Err(), child.Err())
	}
	c.Cancel()
	<-child.Done()
}

type watcher int

func (w *watcher) Watch(*lifetime.Context) { *w++ }

// The watcher is told of whatever shows that somebody wants to know.
func TestWatcher(t *testing.T) {
	for name, ask := range map[string]func(*lifetime.Context){
		"Err":       func(c *lifetime.Context) { _ = c.Err() },
		"Done":      func(c *lifetime.Context) { c.Done() },
		"AfterFunc": func(c *lifetime.Context) { c.AfterFunc(func() {}) },
	} {
		var c lifetime.Context
		var w watcher
		c.Begin(context.Background(), &w)
		c.Value(key{})
		if w != 0 {
			t.Errorf("before %s the watcher was told", name)
		}
		if ask(&c); w == 0 {
			t.Errorf("%s did not tell the watcher", name)
		}
		c.Cancel()
	}
}

// A context that has no AfterFunc, or never ends, is package context's business.
func TestAfterFuncOfOthers(t *testing.T) {
	if stop := lifetime.AfterFunc(context.Background(), func() {}); !stop() {
		t.Error("stop of what never comes = false")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan struct{})
	lifetime.AfterFunc(ctx, func() { close(ran) })
	cancel()
	<-ran
}

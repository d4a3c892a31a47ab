package h2

import (
	"context"
	"slices"
	"sync"
	"time"
)

// requestContext is the context of a request. It ends when the handler returns
// or the stream does; when the connection's ends, that ends the streams. No
// channel and no goroutine is made unless somebody asks.
type requestContext struct {
	base      context.Context // the connection's: values and deadline
	stopFirst func() bool     // c.stop, made once

	mu    sync.Mutex // guards the rest; the last to be locked
	err   error
	done  chan struct{} // nil until asked for
	first func()        // the callback that was there first; most requests have no other
	lent  bool          // there was one
	ran   bool          // one began to run
	more  []*func()
}

var _ interface {
	context.Context
	AfterFunc(func()) func() bool
} = (*requestContext)(nil)

func (c *requestContext) init() { c.stopFirst = c.stop }

// reset makes c ready for the next request.
func (c *requestContext) reset(base context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.err, c.lent = base, nil, false
}

// mayReturn reports whether nobody will look at c any more, as far as c can
// know: a child that can be cancelled has asked for Done.
func (c *requestContext) mayReturn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done == nil && c.first == nil && !c.ran && len(c.more) == 0
}

func (c *requestContext) Deadline() (time.Time, bool) { return c.base.Deadline() }

func (c *requestContext) Value(key any) any { return c.base.Value(key) }

func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.err != nil {
			close(c.done)
		}
	}
	return c.done
}

// AfterFunc is what context.AfterFunc looks for, after it has asked for Done.
// Who calls it here has the first callback for nothing, and must not call stop
// after the handler has returned.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		c.ran = true
		go f()
		return func() bool { return false }
	}
	if !c.lent {
		c.first, c.lent = f, true
		return c.stopFirst
	}
	return c.another(f)
}

// another takes a callback that is not the first.
func (c *requestContext) another(f func()) (stop func() bool) {
	c.more = append(c.more, &f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.more, &f)
		if i < 0 {
			return false
		}
		c.more = slices.Delete(c.more, i, i+1)
		return true
	}
}

// stop calls off the first callback.
func (c *requestContext) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.first != nil
	c.first = nil
	return waits
}

func (c *requestContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return
	}
	c.err = context.Canceled
	if c.done != nil {
		close(c.done)
	}
	if c.first != nil {
		c.ran = true
		go c.first()
		c.first = nil
	}
	for _, f := range c.more {
		c.ran = true
		go (*f)()
	}
	c.more = nil
}

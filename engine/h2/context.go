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
	base context.Context // the connection's: values and deadline

	mu    sync.Mutex // guards the rest; the last to be locked
	err   error
	done  chan struct{} // nil until asked for
	after []*func()
}

var _ interface {
	context.Context
	AfterFunc(func()) func() bool
} = (*requestContext)(nil)

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

// AfterFunc is what context.AfterFunc, and each context derived from this one,
// looks for.
func (c *requestContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	c.after = append(c.after, &f)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.after, &f)
		if i < 0 {
			return false
		}
		c.after = slices.Delete(c.after, i, i+1)
		return true
	}
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
	for _, f := range c.after {
		go (*f)()
	}
	c.after = nil
}

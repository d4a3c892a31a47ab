// Package lifetime is about the end of requests. It has the context of a request to
// one of the engine's servers, which is used again for the next request and costs
// nothing unless somebody asks it; and it says whether what belonged to a request is
// used again at all, or poisoned for the tests.
//
// # What a handler may keep
//
// Request, header maps, URL, context and ResponseWriter belong to the handler until
// it returns; strings, and the slices of a header's values, it may keep for longer.
// If the request had no body, and nobody has asked its context for Done, all of them
// are then used again, for a request of any client. Until that request comes, a
// ResponseWriter that was kept says that the handler has returned, a Request is
// empty, and a context has ended. From then on they belong to the other request:
// whoever still writes, writes into its answer. Under the race detector nothing is
// used again, and requests and headers are overwritten with nonsense, so that tests
// find whoever keeps one.
//
// Context has the method AfterFunc that context.AfterFunc looks for. Called
// directly, it registers one callback without allocating, and its stop must not be
// called after the handler has returned.
package lifetime

import (
	"context"
	"sync"
	"time"
)

// Context is a request's context. It ends, by Cancel, when the handler returns or
// the client goes. Channels and the like are made only when somebody asks for them.
// The zero value has ended; Begin makes it a request's. Its methods may be called
// from any goroutine, except that Begin and Release are the server's.
type Context struct {
	callOff func() bool // c.stop, made once

	mu      sync.Mutex // guards the rest; of the engine's locks the innermost
	base    context.Context
	watcher Watcher // nil = none
	over    bool
	asked   context.Context // what Done and children need; nil until somebody asks
	end     context.CancelFunc
	first   func() // the first callback; most requests have no other
	lent    bool   // there was a first one
	ran     bool   // it began to run
}

// LargestHeader is how many fields a header map may have to be used again: a map
// never shrinks, and clearing a large one takes longer.
const LargestHeader = 64

// A Watcher looks after the client when somebody wants to know about the end of
// its request.
type Watcher interface {
	Watch(*Context) // may be called often, and when the request is over
}

var _ interface {
	context.Context
	AfterFunc(func()) func() bool
} = (*Context)(nil)

// Begin makes c the context of a request. base has the connection's values and
// does not end before the request. w may be nil.
func (c *Context) Begin(base context.Context, w Watcher) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.callOff == nil {
		c.callOff = c.stop
	}
	c.base, c.watcher, c.over = base, w, false
	// Whoever kept c may have asked between Release and now: that was about the
	// request before.
	c.asked, c.end, c.first, c.lent, c.ran = nil, nil, nil, false, false
}

// Release gives c back, so that it may Begin again, unless somebody may still look
// at it: whoever has its Done, as a child that can be cancelled has. It reports
// whether c was given back. c must have ended.
func (c *Context) Release() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked != nil || c.first != nil || c.ran {
		return false
	}
	c.base, c.watcher = nil, nil
	return true
}

// Cancel ends c.
func (c *Context) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.end != nil {
		c.end()
	}
	if c.first != nil {
		c.ran = true
		go c.first()
		c.first = nil
	}
}

// Deadline implements context.Context: there is none.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done implements context.Context. The channel is that of a context of package
// context, so that children need no goroutine, even below a context of another
// type.
func (c *Context) Done() <-chan struct{} { return c.context().Done() }

// Err implements context.Context.
func (c *Context) Err() error {
	c.mu.Lock()
	over, w := c.over, c.watcher
	c.mu.Unlock()
	if over {
		return context.Canceled
	}
	c.want(w)
	return nil
}

// Value implements context.Context.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	from := c.asked // knows how its children hang on it
	if from == nil {
		from = c.base
	}
	c.mu.Unlock()
	if from == nil {
		return nil // it is long over
	}
	return from.Value(key)
}

// AfterFunc is what context.AfterFunc looks for, after it has asked for Done.
// Called directly, the first callback costs nothing, and stop must not be called
// after the handler has returned.
func (c *Context) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	over, lent, w := c.over, c.lent, c.watcher
	if !over && !lent {
		c.first, c.lent = f, true
	}
	c.mu.Unlock()
	switch {
	case over:
		go f()
		return func() bool { return false }
	case lent:
		return context.AfterFunc(c.context(), f)
	}
	c.want(w)
	return c.callOff
}

// stop calls off the first callback.
func (c *Context) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := c.first != nil
	c.first = nil
	return waits
}

// context returns the context that was asked for.
func (c *Context) context() context.Context {
	c.mu.Lock()
	if c.asked == nil {
		base := c.base
		if base == nil {
			base = context.Background()
		}
		c.asked, c.end = context.WithCancel(base)
		if c.over {
			c.end()
		}
	}
	asked, over, w := c.asked, c.over, c.watcher
	c.mu.Unlock()
	if !over {
		c.want(w)
	}
	return asked
}

// want tells the watcher that somebody asks for the end of c. mu is not held.
func (c *Context) want(w Watcher) {
	if w != nil {
		w.Watch(c)
	}
}

// AfterFunc is context.AfterFunc, but calls the context's own method of that name
// directly if there is one, which for a Context takes neither a channel nor memory.
// For stop, what the method says holds.
func AfterFunc(ctx context.Context, f func()) (stop func() bool) {
	if a, ok := ctx.(interface {
		AfterFunc(func()) (stop func() bool)
	}); ok {
		return a.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

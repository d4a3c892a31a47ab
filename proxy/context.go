package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"detour/engine/lifetime"
)

// ending is what makes a forwarding a context: that of the client's request, with the
// trace of the upstream's connection, and, if it is apart, with an end of its own. It
// costs nothing while nobody asks for Done.
type ending struct {
	parent context.Context // of the client's request
	apart  bool            // cancel may end it before parent; otherwise the deadlines of exchange.server do

	broken atomic.Bool // cancel was called

	watch   sync.Mutex // guards what follows
	after   func()     // to be called at the end; nil = nobody wants to know
	unwatch func() bool
	own     context.Context // ends with f, for whoever asked for Done; nil = nobody did
	endOwn  context.CancelFunc
}

// begin decides how f can be cut. A context with an end of its own costs whoever waits
// for Done more than it is worth for the usual request to an online host. There
// deadlines must do: on HTTP/1 they end the read that watches for the client to leave,
// and with it the server's context; on HTTP/2 they reset the stream. But on HTTP/3 they
// would only fail the next read or write. And a body may get stuck on its way to the
// upstream: then on HTTP/1 nothing watches the client yet, and on any protocol the
// client must be told whose failure that is.
func (f *forwarding) begin() {
	f.parent = f.r.Context()
	f.apart = !f.rt.Online || f.r.ProtoMajor == 3 || f.r.ContentLength != 0
}

// cancel ends f, which is apart.
func (f *forwarding) cancel() {
	f.watch.Lock()
	defer f.watch.Unlock()
	if f.broken.Swap(true) {
		return
	}
	if f.endOwn != nil {
		f.endOwn()
	}
	if f.after != nil && f.unwatch() {
		go f.after()
	}
	f.after = nil
}

// Deadline implements context.Context.
func (f *forwarding) Deadline() (time.Time, bool) { return f.parent.Deadline() }

// Done implements context.Context.
func (f *forwarding) Done() <-chan struct{} {
	if !f.apart {
		return f.parent.Done()
	}
	f.watch.Lock()
	defer f.watch.Unlock()
	return f.ownContext().Done()
}

// ownContext is a context of package context that ends with f. f.watch is held.
func (f *forwarding) ownContext() context.Context {
	if f.own == nil {
		f.own, f.endOwn = context.WithCancel(f.parent)
		if f.broken.Load() {
			f.endOwn()
		}
	}
	return f.own
}

// Err implements context.Context.
func (f *forwarding) Err() error {
	if f.broken.Load() {
		return context.Canceled
	}
	return f.parent.Err()
}

// Value implements context.Context.
func (f *forwarding) Value(key any) any {
	if v := f.traced.Value(key); v != nil {
		return v
	}
	if f.apart {
		f.watch.Lock()
		own := f.own
		f.watch.Unlock()
		if own != nil {
			return own.Value(key) // knows how its children hang on it
		}
	}
	return f.parent.Value(key)
}

// AfterFunc is what engine/client looks for in a context: an end that is waited
// for without a channel.
func (f *forwarding) AfterFunc(fn func()) (stop func() bool) {
	if !f.apart {
		return lifetime.AfterFunc(f.parent, fn)
	}
	f.watch.Lock()
	defer f.watch.Unlock()
	if f.broken.Load() || f.after != nil {
		return context.AfterFunc(f.ownContext(), fn)
	}
	f.after, f.unwatch = fn, lifetime.AfterFunc(f.parent, fn)
	return f.stopAfter
}

// unregister is the stop of AfterFunc.
func (f *forwarding) unregister() bool {
	f.watch.Lock()
	defer f.watch.Unlock()
	if f.after == nil {
		return false
	}
	f.after = nil
	return f.unwatch()
}

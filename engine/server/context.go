package server

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// connContext is what the contexts of a connection's requests know.
type connContext struct {
	context.Context
	server *http.Server
	local  net.Addr
}

func (c *connContext) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return c.server
	case http.LocalAddrContextKey:
		return c.local
	}
	return nil
}

// lifetime is a request's context. It ends when the handler returns or the
// client goes. What that takes is made when somebody asks: nobody looks after a
// client of whom nobody wants to know.
type lifetime struct {
	stopFirst func() bool // l.stop, made once

	mu    sync.Mutex // guards the rest; the last to be locked
	conn  *conn      // nil = it is long over
	over  bool
	asked context.Context // what Done and children need; nil until somebody asks
	end   context.CancelFunc
	first func() // the callback that was there first; most requests have no other
	lent  bool   // there was one
	ran   bool   // it began to run
}

var _ interface {
	context.Context
	AfterFunc(func()) func() bool
} = (*lifetime)(nil)

// begin makes l the context of a request of c's.
func (l *lifetime) begin(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conn, l.over, l.lent = c, false, false
}

// release makes l nobody's, if nobody will look at it any more: who has its Done,
// as a child that can be cancelled does, might.
func (l *lifetime) release() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked != nil || l.first != nil || l.ran {
		return false
	}
	l.conn = nil
	return true
}

func (l *lifetime) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is the channel of a context of package context: that is what lets its
// children, even below a context of somebody else's, do without a goroutine.
func (l *lifetime) Done() <-chan struct{} { return l.context().Done() }

func (l *lifetime) Err() error {
	l.mu.Lock()
	over, c := l.over, l.conn
	l.mu.Unlock()
	if over {
		return context.Canceled
	}
	c.wantWatch(l)
	return nil
}

func (l *lifetime) Value(key any) any {
	l.mu.Lock()
	asked, c := l.asked, l.conn
	l.mu.Unlock()
	switch {
	case asked != nil:
		return asked.Value(key)
	case c != nil:
		return c.base.Value(key)
	}
	return nil
}

// AfterFunc is what context.AfterFunc looks for, after it has asked for Done.
// Who calls it here has the first callback for nothing, and must not call stop
// after the handler has returned.
func (l *lifetime) AfterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	over, lent, c := l.over, l.lent, l.conn
	if !over && !lent {
		l.first, l.lent = f, true
	}
	l.mu.Unlock()
	switch {
	case over:
		go f()
		return func() bool { return false }
	case lent:
		return context.AfterFunc(l.context(), f)
	}
	c.wantWatch(l)
	return l.stopFirst
}

// stop calls off the first callback.
func (l *lifetime) stop() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	waits := l.first != nil
	l.first = nil
	return waits
}

// context returns the context that was asked for.
func (l *lifetime) context() context.Context {
	l.mu.Lock()
	asked, c := l.asked, l.conn
	if asked == nil {
		var base context.Context = context.Background()
		if c != nil {
			base = c.base
		}
		l.asked, l.end = context.WithCancel(base)
		if l.over {
			l.end()
		}
		asked = l.asked
	}
	over := l.over
	l.mu.Unlock()
	if !over {
		c.wantWatch(l)
	}
	return asked
}

// cancel ends it.
func (l *lifetime) cancel() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.end != nil {
		l.end()
	}
	if l.first != nil {
		l.ran = true
		go l.first()
		l.first = nil
	}
}

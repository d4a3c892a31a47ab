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
	conn *conn
	body *body // the watch can begin when this was read; nil = there is none

	mu    sync.Mutex // guards the rest
	asked context.Context
	end   context.CancelFunc
	over  bool
}

func (l *lifetime) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is the channel of a context of package context: that is what lets its
// children, even below a context of somebody else's, do without a goroutine.
func (l *lifetime) Done() <-chan struct{} { return l.context().Done() }

func (l *lifetime) Err() error { return l.context().Err() }

func (l *lifetime) Value(key any) any {
	l.mu.Lock()
	asked := l.asked
	l.mu.Unlock()
	if asked == nil {
		return l.conn.base.Value(key)
	}
	return asked.Value(key)
}

// context returns the context that was asked for.
func (l *lifetime) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asked == nil {
		l.asked, l.end = context.WithCancel(l.conn.base)
		if l.over {
			l.end()
		} else {
			l.conn.wantWatch(l)
		}
	}
	return l.asked
}

// cancel ends it.
func (l *lifetime) cancel() {
	l.mu.Lock()
	l.over = true
	end := l.end
	l.mu.Unlock()
	if end != nil {
		end()
	}
}

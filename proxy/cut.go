package proxy

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// exchanges knows the requests of one host that are with its upstream, so that
// they can be ended. The zero value is none.
type exchanges struct {
	mu     sync.Mutex // guards what follows, and what exchange says it does
	first  *forwarding
	closed bool // only the bypassed are added
}

// exchange is what makes a forwarding part of exchanges. What nothing guards is not
// written any more once it is added.
type exchange struct {
	prev, next *forwarding   // guarded by exchanges.mu
	gone       chan struct{} // guarded by exchanges.mu; closed by remove; nil = nobody waits for it
	tunnel     *tunnel       // guarded by exchanges.mu; nil = not upgraded

	server http.ResponseController // of the client's request, below a compressor
	added  bool                    // it is part of exchanges
	bypass bool                    // the host is not online; the client is let through
	res    atomic.Pointer[http.Response]
	events atomic.Bool // res is a stream of events, whose client comes back when it ends
	ended  atomic.Bool // the stream of events is at its end, because we say so
	cut    atomic.Bool // what breaks it off is us
}

// admit says whether requests may be added from now on.
func (e *exchanges) admit(all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = !all
}

// add reports whether f may go on; remove must follow. It may not when it was
// decided about by an older table, so that Cut would not find it.
func (e *exchanges) add(f *forwarding) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed && !f.bypass {
		return false
	}
	if f.next = e.first; f.next != nil {
		f.next.prev = f
	}
	e.first = f
	f.added = true
	return true
}

// remove forgets f, and reports whether nobody but its owner knows it now.
func (e *exchanges) remove(f *forwarding) (alone bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		e.first = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	}
	if f.gone != nil {
		close(f.gone)
	}
	return f.gone == nil
}

// upgraded notes that f is a tunnel now, unless it must not be, and reports whether it
// may.
func (e *exchanges) upgraded(f *forwarding, t *tunnel) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isLeaving(f) {
		return false
	}
	f.tunnel = t
	return true
}

// mayUpgrade reports whether f may become a tunnel.
func (e *exchanges) mayUpgrade(f *forwarding) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !e.isLeaving(f)
}

// isLeaving reports whether Cut waits for the end of f: it would not say goodbye to a
// tunnel that appears only now. mu is held.
func (e *exchanges) isLeaving(f *forwarding) bool { return e.closed && f.gone != nil }

// leaving is one exchange that Cut ends.
type leaving struct {
	f      *forwarding
	tunnel *tunnel
	gone   <-chan struct{}
}

// underWay lists what is, except for the bypassed, for somebody who waits for the
// end of each.
func (e *exchanges) underWay() []leaving {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []leaving
	for f := e.first; f != nil; f = f.next {
		if f.bypass {
			continue
		}
		if f.gone == nil {
			f.gone = make(chan struct{})
		}
		all = append(all, leaving{f, f.tunnel, f.gone})
	}
	return all
}

// endEvents ends the streams of events.
func (e *exchanges) endEvents() {
	for _, l := range e.underWay() {
		if l.f.events.Load() {
			l.f.endEvents()
		}
	}
}

// endEvents ends a stream of events where it is, as if the upstream had.
func (x *exchange) endEvents() {
	x.ended.Store(true)
	x.res.Load().Body.Close()
}

// abort breaks l off, unless it is over. The lock keeps the deadlines from
// hitting the connection's next request.
func (e *exchanges) abort(l leaving) {
	l.f.cut.Store(true)
	e.mu.Lock()
	t := l.f.tunnel // it may have become one since
	e.mu.Unlock()
	if t != nil {
		t.cut()
		return
	}
	if res := l.f.res.Load(); res != nil {
		res.Body.Close() // a Read on its way returns
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-l.gone:
		return
	default:
	}
	if l.f.apart {
		l.f.cancel()
	}
	past := time.Unix(1, 0)
	_ = l.f.server.SetReadDeadline(past)
	_ = l.f.server.SetWriteDeadline(past)
}

// Cut ends what is in flight for host, a Route's Host, at the end of a drain;
// swap in a Table first in which it takes no more. WebSockets get a close
// frame with code (RFC 6455, 7.4: 1001 going away), both sides of them, and
// five seconds to answer it; event streams that were asked for with GET end
// where they are. Other requests get time until the deadline of ctx; then all
// that is left is aborted. When ctx is cancelled, because the host came back,
// they are let alone. Bypassed requests stay. Cut returns when nothing is left,
// all has been aborted, or ctx is cancelled. It may be called from several
// goroutines.
func (h *Handler) Cut(ctx context.Context, host string, code int) {
	rt := h.table.Load().Lookup(host)
	if rt == nil {
		return
	}
	all := rt.Stats.exchanges.underWay()
	var ending sync.WaitGroup // a peer that does not read blocks its goodbye, not the others'
	defer ending.Wait()
	for _, l := range all {
		switch {
		case l.tunnel != nil:
			l.f.cut.Store(true)
			ending.Go(func() { l.tunnel.goodbye(code) })
		case l.f.events.Load():
			l.f.endEvents()
		}
	}
	for _, l := range all {
		select {
		case <-l.gone:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return
			}
			rt.Stats.exchanges.abort(l)
		}
	}
}

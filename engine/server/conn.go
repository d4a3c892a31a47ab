package server

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"detour/engine/h2"
)

// conn is one connection. The fields above mu belong to the goroutine that serves
// it, which is another one when a watch has taken over (see watch.go).
type conn struct {
	server *Server
	raw    net.Conn             // below TLS
	rwc    net.Conn             // what HTTP is spoken on: a *tls.Conn, or raw
	batch  *batch               // below TLS; nil = rwc came with its TLS, or has none
	out    *paced               // what is written on: below batch, or rwc
	tls    *tls.ConnectionState // nil = plaintext
	remote string
	born   time.Time
	base   *connContext

	in        input
	body      *body // of the request whose handler runs; nil = none
	early     bool  // the watch left a byte behind
	ended     error // the watch found that reading ended for good
	delimited bool  // only the end of the connection ends the answer under way

	phase atomic.Uint32 // a phase

	mu       sync.Mutex // guards the rest
	hijacked bool
	current  *exchange // whose handler runs; nil = none

	readBy   time.Time // read deadline in force; zero = none
	readSet  bool      // the handler set the read deadline
	lifted   bool      // the handler wants no deadline for what it reads
	writeSet bool      // the write deadline is the handler's, or was lifted for events
	events   bool      // the answer is a stream of events: client and server may be silent

	watch watch

	http2 *h2.Conn // nil = HTTP/1, or the handshake is not done
}

// phase is what Shutdown and EndIdle need to know of a connection.
type phase = uint32

const (
	fresh  phase = iota // no request came yet
	idle                // between two requests
	active              // at a request
	gone                // closed, or about to be
)

func (s *Server) newConn(nc net.Conn) *conn {
	raw := nc
	if secure, ok := nc.(*tls.Conn); ok {
		raw = secure.NetConn() // now, as Shutdown and Close use it even during the handshake
	}
	return &conn{
		server: s, raw: raw, rwc: nc, out: &paced{Conn: nc},
		remote: nc.RemoteAddr().String(), born: time.Now(),
		base: &connContext{Context: context.Background(), server: s.identity, local: nc.LocalAddr()},
	}
}

// fate is what becomes of a connection after a request.
type fate uint8

const (
	broken fate = iota // close it so that nothing on it looks complete
	over               // close it
	unread             // close it, but the client is still sending
	handed             // another goroutine has it
	next               // the next request
)

// run serves HTTP/1 until the connection ends or another goroutine has it.
func (c *conn) run() {
	f := broken
	defer func() {
		if p := recover(); p != nil && p != http.ErrAbortHandler {
			c.server.ErrorLog.Error("handler panicked", "client", c.remote, "panic", p, "stack", string(debug.Stack()))
		}
		if f != handed {
			c.leave(f)
		}
	}()
	for f = next; f == next; {
		f = broken // in case turn panics or ends this goroutine
		f = c.turn()
	}
}

// turn waits for a request and serves it.
func (c *conn) turn() fate {
	if !c.await() {
		return over
	}
	x, err := c.receive()
	if err != nil {
		if _, ok := err.(ioError); !ok {
			c.refuse(err)
		}
		return over
	}
	c.in.release()
	return c.serve(x)
}

// serve runs the handler.
func (c *conn) serve(x *exchange) fate {
	w := &x.response
	returned := false
	defer func() {
		if !returned {
			w.breakOff()
		}
	}()
	c.body = w.body
	c.handling(x)
	if x.refusesExpectation() {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusExpectationFailed)
	} else {
		c.server.Handler.ServeHTTP(w, w.request)
	}
	returned = true
	if hijacked := c.handled(); hijacked {
		return handed
	}
	c.body = nil
	f := w.finish()
	if f != next {
		return f
	}
	x.recycle()
	return c.rest()
}

// handling notes that x is being served.
func (c *conn) handling(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = x
	c.watch.begin(c.body != nil, c.in.len() > 0)
}

// handled ends the request's context, as the handler has returned, and reports
// whether the handler took the connection.
func (c *conn) handled() (hijacked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.lifetime.Cancel()
	c.current = nil
	c.watch.disarm()
	c.lifted = false // it was for what the handler reads
	return c.hijacked
}

// rest makes the connection idle.
func (c *conn) rest() fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server.stopping.Load() {
		if c.in.len() > 0 {
			return unread
		}
		return over
	}
	if c.writeSet {
		c.writeSet, c.events = false, false
		c.out.renew(c.server.Limits.ProgressTimeout)
	}
	if c.in.len() > 0 { // a pipelined request: not idle
		if c.readSet {
			c.readBy, c.readSet = time.Time{}, false
			_ = c.rwc.SetReadDeadline(time.Time{})
		}
		return next
	}
	c.readSet = false
	c.phase.Store(idle)
	c.waitUntil(c.server.Limits.IdleTimeout)
	if c.watch.reading {
		c.watch.handed = true
		return handed
	}
	c.early, c.ended = c.watch.result()
	return next
}

// await waits for the first byte of a request.
func (c *conn) await() bool {
	if c.in.len() == 0 {
		if c.ended != nil {
			return false
		}
		if !c.early && !c.awaitByte() {
			return false
		}
		c.early = false
		c.in.put(c.watch.one[0])
	}
	if was := c.phase.Load(); was == gone || !c.phase.CompareAndSwap(was, active) {
		// Whoever told the idle connection to end was too late: the client could
		// not send this request again, as it cannot know whether it had an effect.
		c.phase.Store(active)
		c.startHead()
	}
	return true
}

// awaitByte reads the first byte of a request into watch.one.
func (c *conn) awaitByte() bool {
	if c.phase.Load() == fresh {
		c.mu.Lock()
		d := min(c.server.Limits.HeaderTimeout, c.server.Limits.IdleTimeout)
		if c.server.stopping.Load() {
			d = shutdownPatience
		}
		if c.phase.Load() == fresh { // otherwise EndIdle has just set another deadline
			c.waitUntil(d)
		}
		c.mu.Unlock()
	} else {
		// On a busy server the client's next request arrives while others have
		// their turn, so that the read finds it and need not wait. With 64
		// connections this saves a tenth of a small request's cost, with one
		// nothing.
		runtime.Gosched()
	}
	n, _ := c.rwc.Read(c.watch.one[:])
	return n > 0 // an error that came with the byte comes again
}

// lost ends the context of the request under way: its client is gone.
func (c *conn) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cancel()
}

// cancel ends the context of the request under way. mu is held: once the request
// is over, its context may belong to another.
func (c *conn) cancel() {
	if c.current != nil {
		c.current.lifetime.Cancel()
	}
}

package server

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"detour/engine/h2"
)

// conn is one connection. The goroutine that serves it owns the fields above
// mu; it changes when a watch takes over (see watch.go).
type conn struct {
	server *Server
	raw    net.Conn             // below TLS
	rwc    net.Conn             // what HTTP is spoken on: a *tls.Conn, or raw
	batch  *batch               // below TLS; nil = rwc came with its TLS, or has none
	tls    *tls.ConnectionState // nil = plaintext
	remote string
	base   *connContext

	in     input
	served bool // at least one request was

	mu       sync.Mutex // guards the rest
	phase    phase
	hijacked bool
	current  *lifetime // of the request whose handler runs; nil = none

	readBy    time.Time // read deadline in force; zero = none, or unknown
	readSet   bool      // the handler set the read deadline
	writeBy   time.Time // write deadline in force; zero = none
	writeSet  bool      // by the handler of this request
	writeFail error     // of the first write that failed

	watch watch

	http2 *h2.Conn // nil = HTTP/1, or the handshake is not done
}

// phase is what Shutdown needs to know of a connection.
type phase uint8

const (
	fresh  phase = iota // no request came yet
	idle                // between two requests
	active              // at a request
	gone                // closed, or about to be
)

func (s *Server) newConn(nc net.Conn) *conn {
	return &conn{
		server: s, raw: nc, rwc: nc,
		remote: nc.RemoteAddr().String(),
		base:   &connContext{Context: context.Background(), server: s.identity, local: nc.LocalAddr()},
	}
}

// fate is what becomes of a connection after a request.
type fate uint8

const (
	broken fate = iota // close it such that nothing on it looks complete
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
		f = broken // unless what follows says else: it may panic, or end this goroutine
		f = c.turn()
	}
}

// turn waits for a request and serves it.
func (c *conn) turn() fate {
	pipelined := c.in.len() > 0
	if !c.await() {
		return over
	}
	x, err := c.receive(pipelined)
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
	c.handling(&x.lifetime)
	if x.refusesExpectation() {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusExpectationFailed)
	} else {
		defer x.lifetime.cancel() // for a panic
		c.server.Handler.ServeHTTP(w, w.request)
	}
	if c.handled() {
		x.lifetime.cancel()
		return handed // hijacked: the handler's
	}
	x.lifetime.cancel()
	f := w.finish()
	c.served = true
	if f != next {
		return f
	}
	return c.rest()
}

// handling notes that the request whose context is l is being served.
func (c *conn) handling(l *lifetime) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = l
	c.watch.begin(l.body != nil)
}

// handled notes that the handler returned, and reports whether it took the
// connection.
func (c *conn) handled() (hijacked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = nil
	c.watch.disarm()
	return c.hijacked
}

// rest makes the connection idle.
func (c *conn) rest() fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server.stopping.Load() {
		return over
	}
	c.writeSet = false  // a deadline that stands is lifted by the next write
	if c.in.len() > 0 { // a pipelined request: not idle
		if c.readSet {
			c.readSet = false
			_ = c.rwc.SetReadDeadline(time.Time{})
		}
		return next
	}
	c.readSet = false
	c.phase = idle
	c.waitUntil(c.server.Limits.IdleTimeout)
	if c.watch.reading {
		c.watch.handed = true
		return handed
	}
	return next
}

// waitUntil sets the read deadline to d from now, or leaves an earlier one that
// differs little: setting one costs as much as parsing a request. mu is held.
func (c *conn) waitUntil(d time.Duration) {
	now := time.Now()
	by := now.Add(d)
	slack := min(time.Second, d/8)
	if !c.readBy.IsZero() && by.Sub(c.readBy) < slack && !c.readBy.After(by) {
		return
	}
	c.readBy = by
	_ = c.rwc.SetReadDeadline(by)
}

// shutdownPatience is how long a new connection may take to its first request
// once the server is stopping: its client does not know yet.
const shutdownPatience = time.Second

// await waits for the first byte of a request.
func (c *conn) await() bool {
	if c.in.len() == 0 {
		c.mu.Lock()
		if c.phase == fresh {
			d := min(c.server.Limits.HeaderTimeout, c.server.Limits.IdleTimeout)
			if c.server.stopping.Load() {
				d = shutdownPatience
			}
			c.waitUntil(d)
		}
		early, err := c.watch.result()
		c.mu.Unlock()
		n := 0
		if err == nil && !early {
			n, err = c.rwc.Read(c.watch.one[:])
		}
		if n == 0 && !early && err == nil {
			err = io.ErrNoProgress
		}
		if err != nil {
			return false
		}
		c.in.put(c.watch.one[0])
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == gone {
		return false // Shutdown came first
	}
	c.phase = active
	return true
}

// startHead limits the time for the rest of a head that did not come at once.
func (c *conn) startHead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy = time.Now().Add(c.server.Limits.HeaderTimeout)
	_ = c.rwc.SetReadDeadline(c.readBy)
}

// lift removes the server's own read deadline, for a body. It has none: what is
// too slow is the handler's to say.
func (c *conn) lift() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.liftLocked()
}

func (c *conn) liftLocked() {
	if !c.readSet && !c.readBy.IsZero() {
		c.readBy = time.Time{}
		_ = c.rwc.SetReadDeadline(time.Time{})
	}
}

// setReadDeadline is the handler's. It stands until the end of the request.
func (c *conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return errOver
	}
	c.readBy, c.readSet = time.Time{}, true
	return c.rwc.SetReadDeadline(t)
}

// setWriteDeadline is the handler's. It stands until the end of the request;
// when the one before was nearly the same and far away, that is left in force.
func (c *conn) setWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil {
		return errOver
	}
	later := t.Sub(c.writeBy)
	c.writeSet = true
	if !c.writeBy.IsZero() && later >= 0 && later < time.Second && time.Until(c.writeBy) > 10*time.Second {
		return nil
	}
	c.writeBy = t
	return c.rwc.SetWriteDeadline(t)
}

// unlimitWrites lifts the write deadline of an earlier request.
func (c *conn) unlimitWrites() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writeSet && !c.writeBy.IsZero() {
		c.writeBy = time.Time{}
		_ = c.rwc.SetWriteDeadline(time.Time{})
	}
	return c.writeFail
}

// write writes b, after which a failure stays.
func (c *conn) write(b []byte) error { return c.writeAll(b, nil) }

func (c *conn) writeAll(head, body []byte) error {
	if err := c.unlimitWrites(); err != nil {
		return err
	}
	err := c.writeBoth(head, body)
	if err != nil {
		c.mu.Lock()
		c.writeFail = err
		l := c.current
		c.mu.Unlock()
		if l != nil {
			l.cancel()
		}
	}
	return err
}

// leave ends the connection as f says.
func (c *conn) leave(f fate) {
	c.mu.Lock()
	hijacked := c.hijacked
	c.current = nil
	c.watch.disarm()
	c.phase = gone
	failed := c.writeFail != nil
	c.mu.Unlock()
	if hijacked {
		return // the handler's, also when it panicked; Hijack has told the server
	}
	defer c.server.ended(c)
	c.in.drop()
	switch {
	case f == broken:
		c.sever()
	case failed:
		_ = c.raw.Close()
	case f == unread:
		c.linger()
		_ = c.raw.Close()
	default:
		_ = c.rwc.Close()
	}
}

// sever closes the connection with a reset and without TLS's farewell, so that
// an answer that ends with its connection does not look complete.
func (c *conn) sever() {
	if tcp, ok := c.raw.(interface{ SetLinger(int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
}

const (
	// lingerTime is how long a client that is still sending gets to read its
	// answer: closing at once would reset the connection, and the answer with
	// it (RFC 9112, section 9.6). Longer than most round trips.
	lingerTime = 500 * time.Millisecond
	// lingerBytes bounds what is read for nothing meanwhile.
	lingerBytes = 1 << 20
)

// linger ends the sending side, and lets the client read what was sent.
func (c *conn) linger() {
	deadline := time.Now().Add(lingerTime)
	_ = c.rwc.SetDeadline(deadline)
	if half, ok := c.rwc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		return
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok && c.tls != nil {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c.raw, lingerBytes)
}

// retire is Shutdown's word to the connection.
func (c *conn) retire() {
	c.mu.Lock()
	was, http2 := c.phase, c.http2
	switch was {
	case idle:
		c.phase = gone
	case fresh:
		if http2 == nil {
			c.readBy = time.Now().Add(shutdownPatience)
			_ = c.raw.SetReadDeadline(c.readBy)
		}
	}
	c.mu.Unlock()
	switch {
	case http2 != nil:
		http2.Shutdown()
	case was == idle:
		_ = c.rwc.Close() // wakes the goroutine that waits
	}
}

// cut ends the connection at once.
func (c *conn) cut() {
	c.mu.Lock()
	hijacked, l := c.hijacked, c.current
	c.mu.Unlock()
	if hijacked {
		return
	}
	_ = c.raw.Close()
	if l != nil {
		l.cancel()
	}
}

// lost ends the request's context: its client cannot be read from any more.
func (c *conn) lost() {
	c.mu.Lock()
	l := c.current
	c.mu.Unlock()
	if l != nil {
		l.cancel()
	}
}

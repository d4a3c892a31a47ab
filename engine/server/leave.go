package server

import (
	"time"

	"detour/engine/accept"
	"detour/engine/socket"
)

// shutdownPatience is how long, once the server is stopping, a new connection may
// take until its first request, and any connection until the end of a head that has
// begun: the client does not know yet.
const shutdownPatience = time.Second

// leave ends the connection as f says.
func (c *conn) leave(f fate) {
	c.mu.Lock()
	hijacked := c.hijacked
	c.cancel() // the handler may have panicked
	c.current = nil
	c.watch.disarm()
	c.phase.Store(gone)
	c.mu.Unlock()
	if hijacked {
		return // it is the handler's, even if that panicked; Hijack has told the server
	}
	defer c.server.ended(c)
	if f == broken {
		c.sever()
		c.body.finish(false) // whoever still reads it uses the memory that drop gives back
	}
	c.in.drop()
	switch {
	case f == broken:
	case c.out.broken():
		_ = c.raw.Close()
	case f == unread:
		c.linger(unreadTime)
		_ = c.raw.Close()
	default:
		_ = c.rwc.Close()
	}
}

// sever closes the connection without TLS's close_notify, and with a reset if an
// answer would look complete without one.
func (c *conn) sever() {
	if tcp, ok := c.raw.(interface{ SetLinger(int) error }); ok && c.delimited {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
}

// unreadTime is how long a client may go on sending when its request was answered
// before all of the body had arrived. Browsers and many libraries look for an answer
// only when they have sent everything; 30 s are 20 MB from a home's line. It is
// nginx's.
const unreadTime = 30 * time.Second

// linger ends the sending side, and lets the client read what was sent.
func (c *conn) linger(d time.Duration) {
	_ = c.rwc.SetWriteDeadline(time.Now().Add(d))
	if socket.CloseWrite(c.rwc) != nil {
		return
	}
	accept.Linger(c.server.ctx, c.raw, d)
}

// retire tells the connection of a Shutdown. It does not wait: an idle connection is
// woken, and closes itself, which with TLS may take seconds if its client reads
// nothing.
func (c *conn) retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.http2 != nil:
		c.http2.Shutdown()
	case c.phase.Load() == fresh, c.phase.Load() == active && c.current == nil && !c.hijacked: // no head, or not all of it
		c.readBy = time.Now().Add(shutdownPatience)
		_ = c.raw.SetReadDeadline(c.readBy)
	default:
		c.endIn(idle)
	}
}

// endIn wakes the connection to end it, if it is in phase p. mu is held.
func (c *conn) endIn(p phase) bool {
	if !c.phase.CompareAndSwap(p, gone) {
		return false
	}
	c.readBy = time.Unix(1, 0)
	_ = c.raw.SetReadDeadline(c.readBy)
	return true
}

// IdleSince implements accept.Idler. Connections that a handler has taken are never
// asked.
func (c *conn) IdleSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, asked := c.born, false
	if c.http2 != nil {
		since, asked = c.http2.IdleSince()
	} else if p := c.phase.Load(); p == idle {
		since, asked = c.readBy.Add(-c.server.Limits.IdleTimeout), true
	} else if p != fresh {
		return time.Time{}
	}
	if !asked && time.Since(since) < accept.Newcomer {
		return time.Time{}
	}
	return since
}

// EndIdle implements accept.Idler.
func (c *conn) EndIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if socket.Busy(c.raw) { // an answer may still be on its way, or a request not read yet
		return false
	}
	if c.http2 != nil {
		return c.http2.EndIdle()
	}
	return c.endIn(idle) || c.endIn(fresh)
}

// cut ends the connection at once.
func (c *conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hijacked {
		return
	}
	_ = c.raw.Close()
	c.cancel()
}

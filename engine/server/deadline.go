package server

import (
	"errors"
	"os"
	"time"
)

// waitUntil sets the read deadline to d from now, unless one that is a little earlier
// is in force. mu is held.
func (c *conn) waitUntil(d time.Duration) {
	if stands(c.readBy, d) {
		return
	}
	c.readBy = time.Now().Add(d)
	_ = c.rwc.SetReadDeadline(c.readBy)
}

// startHead limits the time for the rest of a head that did not arrive all at once.
func (c *conn) startHead() {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := c.server.Limits.HeaderTimeout
	if c.server.stopping.Load() {
		d = min(d, shutdownPatience)
	}
	c.readBy = time.Now().Add(d)
	_ = c.rwc.SetReadDeadline(c.readBy)
}

// startBody limits the time until more of a body arrives, unless the handler has set
// a deadline. If the answer is a stream of events, or the handler has lifted the
// limit, the client may be silent, but only while its body is wanted.
func (c *conn) startBody(wanted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d := c.server.Limits.ProgressTimeout; d == 0 || (c.events || c.lifted) && wanted {
		c.lift()
	} else if !c.readSet {
		c.waitUntil(d)
	}
}

// isFinal reports whether a failure to read ends the body. After its own deadline the
// handler may set another one and try again.
func (c *conn) isFinal(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	own := c.readSet || c.lifted
	return !own || !errors.Is(err, os.ErrDeadlineExceeded)
}

// expectEvents notes that the answer is a stream of events, so that both sides may be
// silent for as long as they like.
func (c *conn) expectEvents() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events, c.writeSet = true, true
	c.out.renew(0)
}

// lift removes the server's own read deadline. mu is held.
func (c *conn) lift() {
	if !c.readSet && !c.readBy.IsZero() {
		c.readBy = time.Time{}
		_ = c.rwc.SetReadDeadline(time.Time{})
	}
}

// setReadDeadline sets a read deadline for the handler that has w, until the end of
// the request. One that has passed ends the request's context if the body has been
// read. In net/http's server it does so too, by interrupting the background read, and
// that is how a request is cut from outside.
func (c *conn) setReadDeadline(w *response, t time.Time) error {
	past := !t.IsZero() && !t.After(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || w != &c.current.response {
		return errOver
	}
	c.readBy, c.readSet, c.lifted = t, !t.IsZero(), t.IsZero()
	err := c.rwc.SetReadDeadline(t)
	if past && !c.watch.unread {
		c.cancel()
	}
	return err
}

// interrupt ends a read of the body that somebody is in or about to begin.
func (c *conn) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.readBy, c.readSet = time.Unix(1, 0), true // no deadline of our own over it
	_ = c.rwc.SetReadDeadline(c.readBy)
}

// setWriteDeadline sets a write deadline for the handler that has w, until the end of
// the request.
func (c *conn) setWriteDeadline(w *response, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current == nil || w != &c.current.response {
		return errOver
	}
	c.writeSet = true
	return c.out.SetWriteDeadline(t)
}

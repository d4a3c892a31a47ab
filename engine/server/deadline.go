package server

import "time"

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

// setReadDeadline is the handler's. It stands until the end of the request. One
// that has passed ends the request's context, once the body is read: with
// net/http's server, whose look-out for the client it interrupts, that is how a
// request is cut from outside.
func (c *conn) setReadDeadline(t time.Time) error {
	past := !t.IsZero() && !t.After(time.Now())
	c.mu.Lock()
	l := c.current
	if l == nil {
		c.mu.Unlock()
		return errOver
	}
	past = past && !c.watch.unread
	c.readBy, c.readSet = time.Time{}, true
	err := c.rwc.SetReadDeadline(t)
	c.mu.Unlock()
	if past {
		l.cancel()
	}
	return err
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

// limitWrites limits the last thing that is written.
func (c *conn) limitWrites(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeBy, c.writeSet = time.Now().Add(d), true
	_ = c.rwc.SetWriteDeadline(c.writeBy)
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

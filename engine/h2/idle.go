package h2

import "time"

// IdleSince returns since when the connection has no stream, and whether it ever
// had one. The zero time says that it has one now, or that the client is sending
// something, or that the connection is about to end.
func (c *Conn) IdleSince() (since time.Time, asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy() {
		return time.Time{}, false
	}
	return c.idle, c.lastID > 0
}

// EndIdle ends the connection as when it has been idle for too long, if it is
// idle. It does not wait for that.
func (c *Conn) EndIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy() {
		return false
	}
	c.finalGoAway("too many connections")
	return true
}

// busy reports whether there is a reason not to end the connection, or no need.
func (c *Conn) busy() bool {
	return !c.serving || c.final || c.closing || // about to begin, or to end
		len(c.streams) > 0 || len(c.out) > 0 || c.flushing || // we are at work
		!c.in.asleep.Load() || !c.half.IsZero() // or the client is
}

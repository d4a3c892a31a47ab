package h2

import "time"

// IdleSince returns since when the connection has had no stream, and whether it ever
// had one. The zero time means that it has one now, that the client is sending
// something, or that the connection is about to end.
func (c *Conn) IdleSince() (since time.Time, asked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy() {
		return time.Time{}, false
	}
	return c.idle, c.lastID > 0
}

// EndIdle ends the connection if it is idle, as if it had been idle for too long, and
// reports whether it did. It does not wait for the end.
func (c *Conn) EndIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy() {
		return false
	}
	c.finalGoAway("too many connections")
	return true
}

// busy reports whether the connection is not idle, or is ending anyway.
func (c *Conn) busy() bool {
	return !c.serving || c.final || c.closing || // about to begin, or to end
		len(c.streams) > 0 || len(c.out) > 0 || c.flushing || // we are at work
		!c.in.asleep.Load() || !c.half.IsZero() // or the client is
}

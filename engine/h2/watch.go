package h2

import "time"

// watch is what the watchdog does: it looks for a connection that is idle, headers
// that do not come to an end, clients that stall, and deadlines of handlers. One timer
// serves all of this, as most deadlines are never reached.
func (c *Conn) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	now := time.Now()
	next := now.Add(c.limits.IdleTimeout)
	if limit := c.limits.ProgressTimeout; limit > 0 {
		next = earlier(next, now.Add(limit)) // what waits from now on may stall then
	}
	for _, st := range c.streams {
		next = earlier(next, st.expire(now))
	}
	if !c.half.IsZero() && !c.closing {
		limit := c.half.Add(c.limits.HeaderTimeout)
		if !limit.After(now) {
			c.fatal(connError{codeNo, "a header took too long"})
			return
		}
		next = earlier(next, limit)
	}
	if len(c.streams) == 0 && !c.closing {
		limit := c.idle.Add(c.limits.IdleTimeout)
		if !limit.After(now) {
			c.finalGoAway("idle")
			return
		}
		next = earlier(next, limit)
	}
	c.watchAt = next
	c.watchdog.Reset(next.Sub(now))
	c.wake() // take may have found no memory
	c.kick()
}

// watchBy makes the watchdog look at t at the latest.
func (c *Conn) watchBy(t time.Time) {
	if t.Before(c.watchAt) {
		c.watchAt = t
		c.watchdog.Reset(time.Until(t))
	}
}

// headerBegun makes the watchdog look after a header of which only a part is there.
func (c *Conn) headerBegun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.half.IsZero() {
		c.half = time.Now()
		c.watchBy(c.half.Add(c.limits.HeaderTimeout))
	}
}

func (c *Conn) headerEnded() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.half = time.Time{}
}

// earlier returns the earlier of two times; zero is never.
func earlier(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

package client

import (
	"slices"
	"time"
)

// take returns the kept connection that was used last, which is the likeliest
// to be sound and lets the others grow old; nil = none.
func (t *Transport) take() *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retired = false
	last := len(t.idle) - 1
	if last < 0 {
		return nil
	}
	c := t.idle[last]
	t.idle[last] = nil
	t.idle = t.idle[:last]
	return c
}

// put keeps c for further requests, or closes it.
func (t *Transport) put(c *conn) {
	c.reused = true
	c.idleSince = time.Now()
	if !t.keep(c) {
		c.close()
	}
}

func (t *Transport) keep(c *conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retired || len(t.idle) >= t.o.MaxIdle || c.raw == nil {
		return false
	}
	t.idle = append(t.idle, c)
	t.scheduleSweep()
	return true
}

// scheduleSweep makes sure that idle connections are looked at now and then.
// mu is held.
func (t *Transport) scheduleSweep() {
	if t.sweeps || t.o.IdleTimeout <= 0 || len(t.idle) == 0 {
		return
	}
	t.sweeps = true
	if t.sweeper == nil {
		t.sweeper = time.AfterFunc(t.sweepEvery(), t.sweep)
	} else {
		t.sweeper.Reset(t.sweepEvery())
	}
}

// sweepEvery is also how long a connection rests before it is looked at: a
// quarter of its time, so that one closed by the upstream is let go soon.
func (t *Transport) sweepEvery() time.Duration { return t.o.IdleTimeout / 4 }

// sweep closes the connections whose time is over, and those that the upstream
// has closed.
func (t *Transport) sweep() {
	now := time.Now()
	t.mu.Lock()
	t.sweeps = false
	resting := 0
	for resting < len(t.idle) && now.Sub(t.idle[resting].idleSince) >= t.sweepEvery() {
		resting++
	}
	old := slices.Clone(t.idle[:resting])
	t.idle = slices.Delete(t.idle, 0, resting)
	t.mu.Unlock()

	old = slices.DeleteFunc(old, func(c *conn) bool {
		// In the time of one more sweep it would be too old.
		if now.Sub(c.idleSince)+t.sweepEvery() <= t.o.IdleTimeout && c.sound() {
			return false
		}
		c.close()
		return true
	})

	for _, c := range t.restore(old) {
		c.close()
	}
}

// restore puts the connections that sweep has looked at back, or returns them
// when they are not wanted any more.
func (t *Transport) restore(old []*conn) (unwanted []*conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retired {
		return old
	}
	t.idle = slices.Insert(t.idle, 0, old...)
	t.scheduleSweep()
	return nil
}

// CloseIdleConnections closes the connections that are not in use, and those
// that are when their answer has been read, unless another request comes first.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle = nil
	t.retired = true
	if t.sweeper != nil && t.sweeper.Stop() {
		t.sweeps = false
	}
	t.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

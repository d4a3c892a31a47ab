package client

import (
	"slices"
	"time"
)

// take returns the kept connection that was used last, which is the most likely to be
// sound, and leaves the others to grow old; nil = none.
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
	c.reused, c.idle = true, 0
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

// The age of a kept connection is counted in sweeps, four of which take IdleTimeout.
// The first that meets it may come at once.
const (
	sweepsRested = 2 // it has rested for a quarter of IdleTimeout at least, so it is worth a look
	sweepsOld    = 4 // it will be older than IdleTimeout at the next sweep
)

func (t *Transport) sweepEvery() time.Duration { return t.o.IdleTimeout / 4 }

// sweep closes the connections whose time is over, and those that the upstream has
// closed, so that they do not lie about until they are wanted.
func (t *Transport) sweep() {
	t.mu.Lock()
	t.sweeps = false
	resting := 0
	for i, c := range t.idle {
		if c.idle++; c.idle >= sweepsRested {
			resting = i + 1 // the oldest come first
		}
	}
	rested := slices.Clone(t.idle[:resting])
	t.idle = slices.Delete(t.idle, 0, resting)
	t.mu.Unlock()

	rested = slices.DeleteFunc(rested, func(c *conn) bool {
		if c.idle < sweepsOld && c.sound() {
			return false
		}
		c.close()
		return true
	})

	for _, c := range t.restore(rested) {
		c.close()
	}
}

// restore puts back the connections that sweep has checked, or returns them if they
// are not wanted any more.
func (t *Transport) restore(rested []*conn) (unwanted []*conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retired {
		return rested
	}
	t.idle = slices.Insert(t.idle, 0, rested...)
	t.scheduleSweep()
	return nil
}

// CloseIdleConnections closes the connections that are not in use. Those that are in
// use are closed when their answer has been read, unless another request comes first.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	t.retired = true
	t.mu.Unlock()
	t.dropIdle()
}

// dropIdle closes the connections that are not in use.
func (t *Transport) dropIdle() {
	t.mu.Lock()
	idle := t.idle
	t.idle = nil
	if t.sweeper != nil && t.sweeper.Stop() {
		t.sweeps = false
	}
	t.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

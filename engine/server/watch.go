package server

import (
	"errors"
	"os"
	"time"

	"detour/engine/lifetime"
)

// watchDelay is how long a handler may take before the server looks whether its
// client is still there. Most answers are ready by then, even if many wait for their
// turn, and are not worth the goroutine; to a client that gave up it makes no
// difference.
const watchDelay = 25 * time.Millisecond

// watch waits, while a handler runs, for the client to do something: to send more,
// which is kept for later, or to go, which ends the request's context. A timer starts
// it when somebody has asked for that context and the body has been read. A watch
// that is still waiting when the handler returns goes on waiting: from then on its
// goroutine serves the connection, and the one that did so ends. conn.mu guards all
// but one.
type watch struct {
	timer   *time.Timer
	wanted  bool // somebody asked for the context
	unread  bool // there is a body that has to be read first
	ahead   bool // part of the next request is in conn.in already: a byte read now would overtake it
	armed   bool // timer is set
	reading bool
	handed  bool          // the connection is the watch's once its read returns
	off     chan struct{} // closed when the watch stopped reading; nil = nobody waits for it
	has     bool          // one holds a byte
	err     error         // reading ended for good

	one [1]byte // the goroutine's that reads
}

// begin prepares for a request.
func (w *watch) begin(unread, ahead bool) {
	w.wanted, w.unread, w.ahead = false, unread, !unread && ahead
}

// result takes what the last watch left: a byte in one, or an error. Only the
// goroutine that serves the connection may call it.
func (w *watch) result() (has bool, err error) {
	has = w.has
	w.has = false
	return has, w.err
}

func (w *watch) disarm() {
	if w.armed {
		w.armed = false
		w.timer.Stop()
	}
}

// Watch implements lifetime.Watcher: somebody wants to know of the end of l.
func (c *conn) Watch(l *lifetime.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.current != nil && &c.current.lifetime == l {
		c.watch.wanted = true
		c.armWatch()
	}
}

// bodyRead notes that nothing of the current body is left to be read, and whether
// part of the next request has come with it.
func (c *conn) bodyRead(ahead bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.unread, c.watch.ahead = false, ahead
	if c.current != nil {
		c.armWatch()
	}
}

func (c *conn) armWatch() {
	w := &c.watch
	if !w.wanted || w.unread || w.ahead || w.armed || w.reading || w.has || w.err != nil || c.hijacked {
		return
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchDelay, c.look)
	} else {
		w.timer.Reset(watchDelay)
	}
}

// look is the watch. It runs in the timer's goroutine.
func (c *conn) look() {
	w := &c.watch
	c.mu.Lock()
	if !w.armed {
		c.mu.Unlock()
		return
	}
	w.armed, w.reading = false, true
	c.lift()
	c.mu.Unlock()

	n, err := c.rwc.Read(w.one[:])

	c.mu.Lock()
	w.reading = false
	w.has = n == 1
	mine := w.handed
	w.handed = false
	// A read deadline of the handler's ends its request, not the connection.
	if err != nil && !(errors.Is(err, os.ErrDeadlineExceeded) && (!mine || time.Now().Before(c.readBy))) {
		w.err = err
	}
	if w.off != nil {
		close(w.off)
		w.off = nil
	} else if err != nil {
		c.cancel()
	}
	if mine {
		c.early, c.ended = w.result()
	}
	c.mu.Unlock()
	if mine {
		c.run()
	}
}

// callOff ends the watch for good, for a handler that takes the connection.
func (c *conn) callOff() {
	c.mu.Lock()
	c.hijacked = true // now, so that nobody begins another watch
	c.watch.disarm()
	if !c.watch.reading {
		c.mu.Unlock()
		return
	}
	off := make(chan struct{})
	c.watch.off = off
	_ = c.rwc.SetReadDeadline(time.Unix(1, 0))
	c.mu.Unlock()
	<-off
}

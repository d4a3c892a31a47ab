package h2

import (
	"net/http"
	"runtime/debug"
	"slices"
	"time"
)

// worker is a goroutine that runs handlers, one after the other, or writes the
// output. One that finds nothing to do waits a moment to be needed again, as its
// stack has grown by then: a new one would have to be copied several times.
type worker struct {
	wake chan duty // room for one; closed when nothing more comes
}

// duty is what a worker is woken for.
type duty int

const (
	serving  duty = iota // the requests that wait
	flushing             // the output, before those
)

const (
	maxParked = 32          // workers; at some 16 KiB each
	parkTime  = time.Second // that nobody has needed them for
)

// wake has a worker take the first of c.waiting, if there is one and none is on
// its way. It does the same before it begins: so each request has its worker as
// soon as the one before it keeps that busy, but those that are answered at once
// are all answered by one.
func (c *Conn) wake() {
	if c.waking || len(c.waiting) == 0 || c.handlers >= c.limits.Streams {
		return
	}
	c.waking = true
	c.employ(serving)
}

// employ has a worker do d.
func (c *Conn) employ(d duty) {
	if n := len(c.parked); n > 0 {
		w := c.parked[n-1] // the one whose stack is warm
		c.parked[n-1] = nil
		c.parked = c.parked[:n-1]
		c.spare = min(c.spare, n-1)
		w.wake <- d
		return
	}
	c.workers++
	go c.work(d)
}

// work is the goroutine of a worker that begins with d.
func (c *Conn) work(d duty) {
	defer func() { // also after a runtime.Goexit of a handler
		c.mu.Lock()
		defer c.mu.Unlock()
		c.workers--
		c.wake()
		c.changed.Broadcast()
	}()
	w := &worker{wake: make(chan duty, 1)}
	for ok := true; ok; d, ok = <-w.wake {
		if d == flushing {
			c.flush(false)
		}
		for woken := d == serving; ; woken = false {
			st, parked := c.next(w, woken)
			if st == nil && !parked {
				return
			}
			if st == nil {
				break
			}
			c.run(st)
		}
	}
}

// next returns a request for w, which was woken for one or not, or parks it.
func (c *Conn) next(w *worker, woken bool) (st *stream, parked bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if woken {
		c.waking = false
	}
	if st = c.take(); st == nil {
		parked = c.park(w)
	}
	return st, parked
}

// take returns the request that waits longest for a handler; nil = none does, or
// there are enough handlers.
func (c *Conn) take() *stream {
	if len(c.waiting) == 0 || c.handlers >= c.limits.Streams {
		return nil
	}
	st := c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	st.started = true
	c.handlers++
	c.wake()
	return st
}

// park has w wait for the next request, if that is worth it.
func (c *Conn) park(w *worker) bool {
	if c.ended || c.closing || len(c.parked) >= maxParked {
		return false
	}
	if len(c.parked) == 0 {
		c.watchBy(c.now().Add(parkTime))
	}
	c.parked = append(c.parked, w)
	return true
}

// dismiss ends the workers that nobody has needed since it was called last, and
// returns when to call it again; zero = never.
func (c *Conn) dismiss(now time.Time) (next time.Time) {
	for _, w := range c.parked[:c.spare] {
		close(w.wake)
	}
	n := copy(c.parked, c.parked[c.spare:])
	clear(c.parked[n:])
	c.parked = c.parked[:n]
	if c.spare = n; n > 0 {
		return now.Add(parkTime)
	}
	return time.Time{}
}

// run runs the handler of a request.
func (c *Conn) run(st *stream) {
	returned := false
	defer func() {
		if !returned {
			c.aborted(st, recover()) // no value: runtime.Goexit
		}
		c.handlerDone(st, returned)
	}()
	handler := c.handler
	switch st.writer.refusal {
	case http.StatusRequestHeaderFieldsTooLarge:
		handler = headerTooLarge
	case http.StatusBadRequest:
		handler = badRequest
	}
	handler.ServeHTTP(&st.writer, &st.request)
	returned = true
}

// aborted ends a stream whose handler panicked with v.
func (c *Conn) aborted(st *stream, v any) {
	if v != nil && v != http.ErrAbortHandler {
		c.log.Error("handler panicked", "client", c.remote, "panic", v, "stack", string(debug.Stack()))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.err == nil {
		c.reset(st.id, st, codeInternal, "the handler gave up")
	}
}

// handlerDone ends the answer of a handler that is done, frees what the request
// held, and writes what is to be written.
func (c *Conn) handlerDone(st *stream, returned bool) {
	if form := st.request.MultipartForm; form != nil {
		_ = form.RemoveAll()
	}
	last := st.writer.finish()
	c.mu.Lock()
	_ = st.writer.sendPart(last)
	if st.hasBody {
		c.credit(nil, st.body.discard())
	}
	c.handlers--
	flush := !c.flushing && len(c.out) > 0
	if flush {
		c.flushing = true // this goroutine has nothing better to do
		c.wake()          // but may be long at it: another one takes its place
	}
	alone := c.handlers == 0 && len(c.waiting) == 0 && c.in.asleep.Load()
	c.mu.Unlock()
	st.writer.release()
	if returned { // after a panic, somebody may have been left with a part of it
		st.recycle()
	}
	if flush {
		c.flush(alone)
	}
}

// headerTooLarge answers what net/http answers.
var headerTooLarge http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	_, _ = w.Write([]byte("<h1>HTTP Error 431</h1><p>Request Header Field(s) Too Large</p>"))
})

// badRequest tells whoever wrote a client by hand what to look for: a reset, which
// other malformed requests get, says nothing.
var badRequest http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "400 Bad Request: "+paddedReason, http.StatusBadRequest)
})

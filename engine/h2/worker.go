package h2

import (
	"net/http"
	"runtime/debug"
	"time"
)

// worker is a goroutine that runs handlers, one after the other. One that is
// done waits a moment for the next request, as its stack has grown by then to
// what handlers need: a new one would have to be copied several times.
type worker struct {
	next chan *stream // room for one; closed when no more comes
}

const (
	maxParked = 32          // workers; at some 16 KiB each
	parkTime  = time.Second // that nobody has needed them for
)

// start gives st a handler.
func (c *Conn) start(st *stream) {
	st.started = true
	c.handlers++
	if n := len(c.parked); n > 0 {
		w := c.parked[n-1] // the one whose stack is warm
		c.parked[n-1] = nil
		c.parked = c.parked[:n-1]
		c.spare = min(c.spare, n-1)
		w.next <- st
		return
	}
	c.workers++
	go c.work(st)
}

// work is the goroutine of a worker.
func (c *Conn) work(st *stream) {
	defer func() { // also after a runtime.Goexit of a handler
		c.mu.Lock()
		defer c.mu.Unlock()
		c.workers--
		c.changed.Broadcast()
	}()
	w := &worker{next: make(chan *stream, 1)}
	for ok := true; ok; st, ok = <-w.next {
		if !c.run(st, w) {
			return
		}
	}
}

// park has w wait for the next request, if that is worth it.
func (c *Conn) park(w *worker) bool {
	if c.ended || c.closing || len(c.parked) >= maxParked {
		return false
	}
	if len(c.parked) == 0 {
		c.watchBy(time.Now().Add(parkTime))
	}
	c.parked = append(c.parked, w)
	return true
}

// dismiss ends the workers that nobody has needed since it was called last, and
// returns when to call it again; zero = never.
func (c *Conn) dismiss(now time.Time) (next time.Time) {
	for _, w := range c.parked[:c.spare] {
		close(w.next)
	}
	n := copy(c.parked, c.parked[c.spare:])
	clear(c.parked[n:])
	c.parked = c.parked[:n]
	if c.spare = n; n > 0 {
		return now.Add(parkTime)
	}
	return time.Time{}
}

// run runs the handler of a request. It reports whether w was parked.
func (c *Conn) run(st *stream, w *worker) (parked bool) {
	returned := false
	defer func() {
		if !returned {
			c.aborted(st, recover()) // no value: runtime.Goexit
			w = nil
		}
		parked = c.handlerDone(st, w)
	}()
	handler := c.handler
	if st.writer.refusal != 0 {
		handler = headerTooLarge
	}
	handler.ServeHTTP(&st.writer, &st.request)
	returned = true
	return false // unless the deferred function knows better
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

// handlerDone ends the answer of a handler that has returned, frees what the
// request held, lets the next one have its place, and writes what is to be
// written. It reports whether w was parked; nil = it is not to be.
func (c *Conn) handlerDone(st *stream, w *worker) (parked bool) {
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
	for len(c.waiting) > 0 && c.handlers < c.limits.Streams {
		next := c.waiting[0]
		c.waiting[0] = nil
		c.waiting = c.waiting[1:]
		c.start(next)
	}
	flush := !c.flushing && len(c.out) > 0
	if flush {
		c.flushing = true // this goroutine has nothing else to do
	} else if w != nil {
		parked = c.park(w)
	}
	alone := c.handlers == 0 && c.in.asleep.Load()
	c.mu.Unlock()
	st.writer.release()
	if w != nil { // it did not panic: then somebody may have been left with a part of it
		st.recycle()
	}
	if flush {
		parked = c.flush(w, alone)
	}
	return parked
}

// headerTooLarge answers what net/http answers.
var headerTooLarge http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
	_, _ = w.Write([]byte("<h1>HTTP Error 431</h1><p>Request Header Field(s) Too Large</p>"))
})

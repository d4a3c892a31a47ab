package h2

import (
	"net/http"
	"runtime/debug"
	"slices"
	"time"
)

// wake makes a worker take the first of c.waiting, unless there is none or a worker is
// on its way already. That worker calls wake, too, before it runs the handler. So a
// request gets a worker of its own as soon as the one before it keeps its worker busy,
// while requests that are answered at once are all answered by the same one.
func (c *Conn) wake() {
	if c.waking || len(c.waiting) == 0 || c.handlers >= c.limits.Streams {
		return
	}
	c.waking = true
	c.working++
	c.workers.Do((*answering)(c))
}

// answering is the workers.Job that runs the handlers of waiting requests.
type answering Conn

func (a *answering) Do() {
	c := (*Conn)(a)
	over := false
	defer func() {
		if !over { // runtime.Goexit of a handler
			c.mu.Lock()
			defer c.mu.Unlock()
			c.stopWorking()
			c.wake()
		}
	}()
	for st := c.next(true); st != nil; st = c.next(false) {
		c.run(st)
	}
	over = true
}

// next returns a request for a worker; nil = there is none, and the worker is done.
// woken says that it was woken for this one.
func (c *Conn) next(woken bool) *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if woken {
		c.waking = false
	}
	st := c.take()
	if st == nil {
		c.stopWorking()
	}
	return st
}

func (c *Conn) stopWorking() {
	if c.working--; c.ended {
		c.changed.Broadcast()
	}
}

// A request in progress takes about handlerMemory, so one client could take a lot.
// If memory is scarce, a connection has freeHandlers of them at once.
const (
	handlerMemory = 24 << 10
	freeHandlers  = 8

	// memoryRetry is about as long as what takes memory lasts.
	memoryRetry = time.Second
)

// take returns the request that has waited longest for a handler; nil = none waits, or
// there are as many handlers as there may be.
func (c *Conn) take() *stream {
	if len(c.waiting) == 0 || c.handlers >= c.limits.Streams {
		return nil
	}
	if c.handlers >= freeHandlers && !c.memory.Take(handlerMemory) {
		// Whichever ends next makes room. If none does, as event streams do not, there
		// may be memory again.
		c.watchBy(c.now().Add(memoryRetry))
		return nil
	}
	st := c.waiting[0]
	c.waiting = slices.Delete(c.waiting, 0, 1)
	st.started = true
	c.handlers++
	c.wake()
	return st
}

// run runs the handler of a request.
func (c *Conn) run(st *stream) {
	returned := false
	defer func() {
		if !returned {
			c.aborted(st, recover()) // nil = runtime.Goexit
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

// handlerDone ends the answer of a handler that is done, frees what the request held,
// and writes the output.
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
	if c.handlers--; c.handlers >= freeHandlers {
		c.memory.Give(handlerMemory)
	}
	flush := !c.flushing && len(c.out) > 0
	if flush {
		c.flushing = true // this goroutine has nothing better to do
		c.wake()          // but that may take long, so another one takes its place
	}
	alone := c.handlers == 0 && len(c.waiting) == 0 && c.in.asleep.Load()
	c.mu.Unlock()
	st.writer.release()
	if returned { // after a panic somebody may still have a part of it
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

// badRequest tells the author of a client what to look for. A reset, with which other
// malformed requests are refused, says nothing.
var badRequest http.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "400 Bad Request: "+paddedReason, http.StatusBadRequest)
})

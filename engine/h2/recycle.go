package h2

import (
	"net/http"
	"net/url"
	"sync"

	"detour/engine/lifetime"
)

// idleStreams are streams that may be used again, with all that hangs on them:
// request, header maps, context, URL. Only what a handler can read and write of a
// request without a trace is shared with the next one; whatever may still be in
// use when a handler has returned is left to the garbage collector.
var idleStreams = sync.Pool{New: func() any {
	st := new(stream)
	st.bare = *new(http.Request).WithContext(&st.context)
	st.header = make(http.Header)
	st.writer.st, st.writer.header = st, make(http.Header)
	st.body.st, st.body.arrive.L = st, &st.body.mu
	return st
}}

// newStream makes a stream of this connection.
func (c *Conn) newStream(id uint32) *stream {
	st := idleStreams.Get().(*stream)
	st.c, st.id = c, id
	st.context.Begin(c.base, nil)
	st.request = st.bare
	st.writable.L = &c.mu
	clear(st.header) // they are empty, unless somebody has kept one
	clear(st.writer.header)
	st.writer.done = false
	return st
}

// recycle has st used again, if nobody can have kept a part of it: the handler
// has returned, the client had sent no body that somebody might still read or
// close, and nobody waits for the end of the context. Where the race detector
// watches, st is filled with nonsense instead, so that it is noticed if somebody
// has. The writer stays done until newStream: one that was kept finds nothing to
// write to.
func (st *stream) recycle() {
	if st.hasBody || !st.context.Release() || st.request.MultipartForm != nil {
		return
	}
	if lifetime.Poison {
		lifetime.Spoil(&st.request, &st.url, st.header, st.writer.header)
		return
	}
	if len(st.header) > lifetime.LargestHeader || len(st.writer.header) > lifetime.LargestHeader {
		return
	}
	clear(st.header)
	clear(st.writer.header)
	st.c, st.request, st.url = nil, http.Request{}, url.URL{}
	st.writer = responseWriter{st: st, done: true, header: st.writer.header, trailers: st.writer.trailers[:0]}
	st.streamState = streamState{}
	st.body.bodyState = bodyState{} // deadlines, and what the client says, may touch it
	idleStreams.Put(st)
}

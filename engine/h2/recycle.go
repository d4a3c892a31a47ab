package h2

import (
	"net/http"
	"net/url"
	"sync"

	"detour/engine/lifetime"
)

// idleStreams are streams that may be used again, with all that belongs to them:
// request, header maps, context, URL. A stream of which anything may still be in use
// when its handler has returned is left to the garbage collector.
var idleStreams = sync.Pool{New: func() any {
	st := new(stream)
	st.bare = *new(http.Request).WithContext(&st.context)
	st.header = make(http.Header)
	st.writer.st, st.writer.header = st, make(http.Header)
	st.body.st, st.body.arrive.L = st, &st.body.mu
	return st
}}

// newStream returns an empty stream of this connection.
func (c *Conn) newStream(id uint32) *stream {
	st := idleStreams.Get().(*stream)
	st.c, st.id = c, id
	st.context.Begin(c.base, nil)
	st.request = st.bare
	st.writable.L = &c.mu
	clear(st.header) // they are empty, unless somebody kept one
	clear(st.writer.header)
	st.writer.done = false
	return st
}

// recycle makes st available for another request if nobody can still be using a part
// of it: the handler has returned, there was no body that somebody might read or
// close, and nobody waits for the end of the context. Under the race detector st is
// filled with nonsense instead, so that whoever still uses it is found. The writer
// stays done until newStream, so that one that was kept writes nothing.
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
	st.body.bodyState = bodyState{} // which deadlines, and frames of the client, may have changed
	idleStreams.Put(st)
}

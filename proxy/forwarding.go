package proxy

import (
	"context"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"detour/engine/client"
	"detour/engine/lifetime"
	"detour/engine/socket"
	"detour/logging"
)

// forwarding is one request on its way to the upstream and back. It is also the context
// of the request to the upstream (context.go).
//
// When it is over it is used again for another request; see end.
type forwarding struct {
	out       *http.Request // to the upstream
	url       url.URL       // out's
	header    http.Header   // out's
	values    [addedFields]string
	trace     httptrace.ClientTrace
	traced    context.Context // carries trace
	stopAfter func() bool     // unregister

	journey
}

// journey is the part of a forwarding that belongs to one request.
type journey struct {
	w    http.ResponseWriter // the compressor when there is one
	rc   *http.ResponseController
	r    *http.Request
	rt   *Route
	rec  *logging.Record
	body *requestBody // nil = none

	member    *Member   // that works on it
	upgrading bool      // it asks for another protocol
	tried     []attempt // members that failed in the last try
	resent    bool      // it was sent once more to an upstream that was stopping
	handler   *Handler

	attempts   int                  // to get a connection since RoundTrip was called, in whose goroutine
	single     bool                 // one request at a time is on its connection, and this one is sent once
	stale      bool                 // the last connection had ended before it was used
	connecting atomic.Bool          // it waits for a connection, or did when the last attempt failed
	connects   atomic.Int32         // attempts to get one, of all RoundTrips
	reused     atomic.Bool          // the connection had served another request before
	began      atomic.Bool          // a byte of the answer arrived
	held       atomic.Pointer[held] // its place in the queue, to be given up once there is a connection; nil = none
	stuck      atomic.Bool          // the upstream took nothing more of body, so it was cancelled

	interim  sync.Mutex // held while a 1xx is passed on
	answered bool       // guarded by interim: the final answer is there, no more 1xx
	interims int        // guarded by interim: how many came

	compressor compressWriter
	compressed http.ResponseController // of compressor

	lasting bool // the RoundTripper may still use it when the answer has been read
	whole   bool // the answer came to its end, and its body was closed

	exchange // so that it can be cut
	ending   // as a context
}

// usualFields is how many fields a request has at most, nearly always.
const usualFields = 28

// forwardings has those that are over.
var forwardings = sync.Pool{New: func() any {
	f := &forwarding{header: make(http.Header, usualFields)}
	f.trace = httptrace.ClientTrace{
		GetConn:              f.getConn,
		GotConn:              f.gotConn,
		GotFirstResponseByte: f.firstByte,
		Got1xxResponse:       f.passInterim,
	}
	f.traced = httptrace.WithClientTrace(context.Background(), &f.trace)
	f.stopAfter = f.unregister
	// Without a version http.Transport would not wait for a 100.
	out := http.Request{URL: &f.url, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
	f.out = out.WithContext(f)
	return f
}}

func newForwarding() *forwarding { return forwardings.Get().(*forwarding) }

// use makes m the member that works on f.
func (f *forwarding) use(m *Member) {
	f.leave()
	f.member = m
	m.inFlight.Add(1)
	f.rec.Upstream = m.name
}

// leave says that no member works on f any more.
func (f *forwarding) leave() {
	if f.member != nil {
		f.member.inFlight.Add(-1)
		f.member = nil
	}
}

// end must be called when f is over, however it ended.
func (f *forwarding) end() {
	if f.body != nil {
		f.body.release(&f.server)
	}
	alone := true
	if f.added {
		alone = f.rt.Stats.exchanges.remove(f)
	}
	f.leave()
	if f.apart {
		f.cancel()
	}
	if alone && f.recyclable() {
		client.Release(f.res.Load())
		f.recycle()
	}
}

// recyclable reports whether nobody can be using f any more, except for Cut, of which
// exchanges.remove tells. An upgraded request is known to whoever ends tunnels. A
// RoundTripper of net/http has goroutines of its own that may look at the context at
// any time, and so has the dialling of a connection. The goroutine of engine/client
// that sends a body uses nothing but the body.
func (f *forwarding) recyclable() bool {
	return f.whole && !f.lasting && (f.body == nil || f.body.complete()) && !f.upgrading &&
		f.connects.Load() == 1 && f.reused.Load()
}

// recycle gives f to another request.
func (f *forwarding) recycle() {
	if len(f.header) <= usualFields {
		clear(f.header)
	} else {
		f.header = make(http.Header, usualFields) // a large map stays one, and is slow to clear
	}
	f.values = [addedFields]string{}
	f.url = url.URL{}
	out := f.out
	out.Host, out.Body, out.GetBody, out.ContentLength, out.Trailer = "", nil, nil, 0, nil
	f.journey = journey{}
	if lifetime.Poison {
		// Whoever still uses it is found by the race detector, or fails on this.
		out.URL, out.Header, f.header, f.traced = nil, nil, nil, nil
		return
	}
	forwardings.Put(f)
}

// getConn slows down http.Transport, which would otherwise dial without a pause for as
// long as an HTTP/2 upstream ends each connection before it takes a request. Through
// kept connections it may go as fast as it can.
func (f *forwarding) getConn(string) {
	const atOnce = 3
	f.connects.Add(1)
	f.connecting.Store(true)
	f.stale = false
	if f.attempts++; f.attempts > atOnce && !f.reused.Load() || f.attempts > atOnce+idleConnections {
		time.Sleep(holdRetry)
	}
}

func (f *forwarding) gotConn(info httptrace.GotConnInfo) {
	if f.stale = f.single && info.Reused && !socket.Quiet(rawConn(info.Conn)); f.stale {
		info.Conn.Close() // before anything is sent
		return
	}
	f.connecting.Store(false)
	f.reused.Store(info.Reused)
	if place := f.held.Load(); place != nil {
		f.rt.Stats.queue.leave(place)
	}
}

func (f *forwarding) firstByte() { f.began.Store(true) }

package logging

import (
	"net/http"
	"time"
)

// StatusClientGone is the status in the log of a request whose client went
// away before the answer; it is nginx's number and is never sent.
const StatusClientGone = 499

// Record is what the handlers know about one request beyond what can be seen
// from outside. AccessLog makes it; the handlers below find it with RecordFrom
// and fill it in. Only the request's own goroutine may touch it, and nobody after
// the handler has returned. Empty fields are left out of the line.
type Record struct {
	Sink      *Sink  // where the line goes; nil = the fallback given to AccessLog
	Discard   bool   // no line at all (a host with log = false)
	Action    string // what was done: "proxy", "redirect", "unavailable", …
	Upstream  string // "10.1.1.4:80"
	RequestID string
	ClientIP  string // the real client; "" = the peer
	Err       error  // why the request did not succeed; logged as "error"

	// Status replaces the status in the line; 0 = what was sent. Set it to
	// StatusClientGone when the client went away: whatever was sent then was
	// not received.
	Status int

	exchange *exchange // nil outside AccessLog
}

// RecordFrom returns the Record of the request that w answers; w is what
// AccessLog gave to its handler, or a wrapper of it that has Unwrap. It is never
// nil: outside AccessLog it is one that nobody reads.
func RecordFrom(w http.ResponseWriter) *Record {
	for {
		if x, ok := w.(*exchange); ok {
			return &x.record
		}
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return new(Record)
		}
		w = wrapper.Unwrap()
	}
}

// Upgraded writes the opening line of a connection that has just been switched
// to another protocol: status is 101, or 200 for an extended CONNECT (RFC 8441,
// 9220). The closing line, with the bytes of both directions and the whole
// duration, follows when the handler returns. The two lines are told apart by
// "connection": "opened" and "closed". Further calls do nothing.
func (rec *Record) Upgraded(status int) {
	if x := rec.exchange; x != nil && !x.upgraded {
		x.upgraded = true
		x.status = status
		if x.conn != nil {
			x.conn.sent.Store(0) // the head of the 101 is no body
		}
		x.log("opened")
	}
}

// exchange is all that AccessLog needs for one request, in one allocation that is
// used again. It is the handler's ResponseWriter.
type exchange struct {
	response
	record   Record
	request  *http.Request // as it arrived, but for Body
	body     countingBody
	start    time.Time
	fallback func() *Sink
	upgraded bool
}

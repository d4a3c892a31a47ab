package logging

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// AccessLog returns the outermost handler: it passes each request to next and
// writes one line when next is done with it, also when next panics (the panic
// goes on afterwards, http.ErrAbortHandler too). The handlers below say what
// they know through RecordFrom. fallback is asked once for each request whose
// Record names no Sink; where it returns nil, nothing is logged.
//
// The line describes the request as it arrived, so handlers must not change the
// header map or the URL of the request they were given (a copy is theirs).
//
// The http.ResponseWriter that next gets supports http.ResponseController
// wholly; Unwrap leads to the server's own. As in net/http, it must not be used
// when next has returned: it serves another request then.
func AccessLog(next http.Handler, fallback func() *Sink) http.Handler {
	return &accessLog{next: next, fallback: fallback}
}

type accessLog struct {
	next      http.Handler
	fallback  func() *Sink
	exchanges sync.Pool // of *exchange, zero
}

func (a *accessLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x, ok := a.exchanges.Get().(*exchange)
	if !ok {
		x = new(exchange)
	}
	x.rw, x.head = w, r.Method == http.MethodHead
	x.record.exchange = x
	x.request, x.fallback, x.start = r, a.fallback, time.Now()
	if r.Body != nil && r.Body != http.NoBody {
		r = x.countBody(r)
	}
	defer a.finish(x)
	a.next.ServeHTTP(x, r)
}

// countBody returns a copy of r whose body is counted. r itself keeps its own:
// net/http's HTTP/1 server looks at it to decide whether it waits for what the
// handler left unread, and whether the connection can go on.
func (x *exchange) countBody(r *http.Request) *http.Request {
	if r.Trailer == nil && r.ContentLength < 0 {
		// The server fills the trailers in when it has read the body, into
		// this map; without one, only its own request would have them.
		r.Trailer = make(http.Header)
	}
	x.body.ReadCloser = r.Body
	counted := r.WithContext(r.Context())
	counted.Body = &x.body
	return counted
}

// finish writes the line of a request that is over. It is deferred.
func (a *accessLog) finish(x *exchange) {
	panicked := recover()
	if panicked != nil {
		x.aborted(panicked)
	}
	if x.upgraded {
		x.log("closed")
	} else {
		x.log("")
	}
	if panicked != nil {
		panic(panicked)
	}
	a.over(x)
}

// aborted notes that the handler panicked. What it said itself stands.
func (x *exchange) aborted(panicked any) {
	if x.status == 0 && x.request.Context().Err() == nil {
		x.status = http.StatusInternalServerError // nothing was sent: the visitor saw a broken connection
	}
	if x.record.Err != nil {
		return
	}
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		x.record.Err = err
	} else {
		x.record.Err = fmt.Errorf("panic: %v", panicked)
	}
}

// finalStatus is what the line says.
func (x *exchange) finalStatus() int {
	switch {
	case x.record.Status != 0:
		return x.record.Status
	case x.status != 0:
		return x.status
	case x.request.Context().Err() != nil:
		return StatusClientGone // nothing was sent and nobody waits for it
	}
	return http.StatusOK // what the server sends when a handler says nothing
}

// log writes one line about the request as it stands; connection is "opened" or
// "closed" on the lines of an upgraded one.
func (x *exchange) log(connection string) {
	if x.record.Discard {
		return
	}
	sink := x.record.Sink
	if sink == nil && x.fallback != nil {
		sink = x.fallback()
	}
	if sink == nil {
		return
	}
	var reason string
	if x.record.Err != nil {
		reason = x.record.Err.Error()
	}
	read, size := x.counts()
	now := time.Now()
	sink.file.add(&line{
		sink:       sink,
		request:    x.request,
		header:     x.rw.Header(),
		record:     &x.record,
		status:     x.finalStatus(),
		bytesRead:  read,
		size:       size,
		time:       now,
		duration:   now.Sub(x.start),
		connection: connection,
		err:        reason,
	})
}

// counts is how many bytes of the request's body were read, and how many of the
// answer's were sent.
func (x *exchange) counts() (read, sent int64) {
	read, sent = x.body.n.Load(), x.size
	if x.conn != nil {
		read += x.conn.read.Load()
		sent += x.conn.sent.Load()
	}
	return read, sent
}

// over ends the use of x, which serves another request if nobody can hold it
// any more: an upstream's client may still read the body, and a hijacked
// connection lives on as long as somebody likes. What panicked may have left
// anything behind, and does not get here.
func (a *accessLog) over(x *exchange) {
	if x.body.ReadCloser != nil || x.conn != nil || x.upgraded {
		return
	}
	*x = exchange{}
	if poison {
		// Who uses it all the same meets the race detector, a nil pointer or
		// this, and never another request.
		x.record = Record{Action: "used after the handler returned", RequestID: "used after the handler returned"}
		return
	}
	a.exchanges.Put(x)
}

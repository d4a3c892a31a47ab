package logging

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// AccessLog returns the outermost handler: it passes each request to next and
// writes one line when next is done with it, also when next panics (the panic
// goes on afterwards, http.ErrAbortHandler too). The handlers below say what
// they know through RecordFrom. fallback is asked once for each request whose
// Record names no Sink; where it returns nil, nothing is logged.
//
// The line describes the request as it arrived, so handlers must not change the
// header map or the URL of the request they were given (a copy is theirs). Its
// Body is replaced by one that counts.
//
// The http.ResponseWriter that next gets supports http.ResponseController
// wholly; Unwrap leads to the server's own.
func AccessLog(next http.Handler, fallback func() *Sink) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := &exchange{request: r, start: time.Now(), fallback: fallback}
		x.record.exchange = x
		x.response = response{rw: w, head: r.Method == http.MethodHead}
		if r.Body != nil && r.Body != http.NoBody {
			x.body.ReadCloser = r.Body
			r.Body = &x.body // the server keeps its own reference
		}
		defer x.finish()
		next.ServeHTTP(x, r)
	})
}

// finish writes the line of a request that is over. It is deferred.
func (x *exchange) finish() {
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
}

// aborted notes that the handler panicked. What it said itself stands.
func (x *exchange) aborted(panicked any) {
	if x.response.status == 0 && x.request.Context().Err() == nil {
		x.response.status = http.StatusInternalServerError // nothing was sent: the visitor saw a broken connection
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

// status is what the line says.
func (x *exchange) status() int {
	switch {
	case x.record.Status != 0:
		return x.record.Status
	case x.response.status != 0:
		return x.response.status
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
	now := time.Now()
	sink.file.add(&line{
		sink:       sink,
		request:    x.request,
		header:     x.response.rw.Header(),
		record:     &x.record,
		status:     x.status(),
		bytesRead:  x.body.n.Load() + x.response.read.Load(),
		size:       x.response.size.Load(),
		time:       now,
		duration:   now.Sub(x.start),
		connection: connection,
		err:        reason,
	})
}

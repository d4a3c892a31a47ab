package client

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"

	"detour/engine/memory"
)

// headLimit is http.Transport's default, rounded: far above every application's
// header, far below a router's memory.
const headLimit = 1 << 20

// Options say how to talk to an upstream.
type Options struct {
	// Dial opens a connection. RoundTrip returns its error as it is. Connections
	// are kept for further requests only if they implement syscall.Conn, as
	// *net.TCPConn and *net.UnixConn do: the others cannot be checked.
	Dial func(ctx context.Context) (net.Conn, error)

	// ResponseTimeout is how long the upstream may take from the end of the
	// request to the end of the response head, for the request's head, and for a
	// piece of its body, 64 KiB at most; 0 = for ever. If it takes longer RoundTrip fails with
	// a net.Error whose Timeout is true. After the head, a piece that is not taken
	// makes a waiting Read of the answer's body fail, after one to three times as
	// long. An answer that keeps coming is not broken off because the upstream
	// does not take the body: the answer is what was asked for, and when it ends
	// so does the body.
	ResponseTimeout time.Duration

	// Patience is how long the upstream of a kept connection may acknowledge nothing of
	// a request. After that the request fails with ErrVanished, or is sent once more;
	// 0 = ResponseTimeout must do. It is for Linux.
	Patience time.Duration

	// ContinueTimeout is how long a request with "Expect: 100-continue" waits
	// before its body is sent all the same; 0 = not at all.
	ContinueTimeout time.Duration

	IdleTimeout time.Duration // how long an unused connection is kept; 0 = until the upstream closes it
	MaxIdle     int           // how many unused ones are kept; 0 = none
	HeadLimit   int           // of a response head or trailers, in bytes; 0 = 1 MiB

	Memory *memory.Budget // of large buffers; nil = there is no limit
}

// Transport is an http.RoundTripper for one upstream: whatever a request's URL
// says, it goes there; its scheme and host are not looked at, but for the Host
// field when the request has none. It may be used by several goroutines at once.
//
// It behaves like http.Transport, and differs where that guesses:
//
//   - Answers that two parsers could read in two ways are errors, see
//     wire.ParseResponse. A 101 nobody asked for is one too.
//   - Requests that would be read as something else are refused before anything
//     is sent, as is CONNECT. No User-Agent and no Accept-Encoding is invented,
//     nothing is decompressed, there are no cookies and no proxies.
//   - A Body with a ContentLength of 0 is sent chunked. One that is longer than
//     its ContentLength is an error only if the excess comes in the same Read as
//     the last of what is sent.
//   - When the final answer comes instead of the 100 that was waited for, the
//     body is not sent and the connection ends with the answer, unless that is a
//     chunked 2xx: a server that streams may still read.
//   - A request is sent once more, on a new connection, if a kept one ended before
//     a byte of the answer, the method is idempotent, and there is no body.
//   - A connection whose last answer had "Keep-Alive: timeout=N", as those of Apache
//     and Node have, is not used again when its upstream may be about to close it: a
//     request sent then would be lost, and not every request may be sent twice.
//     Without that field, a connection whose last request began over a second ago is
//     not used for a request that may not be sent twice.
//   - When a kept connection brings nothing in time, the unused ones are closed too:
//     if the machine vanished, or its name moved, a request would wait in vain on
//     each of them.
//   - Of httptrace's hooks GetConn, GotConn (without an IdleTime), GotFirstResponseByte,
//     Got100Continue and Got1xxResponse are called, all before RoundTrip returns.
//
// As in http.Transport, the 1xx of an answer count against HeadLimit together with its
// head, unless there is a Got1xxResponse. Then that hook decides how many there may
// be: an error that it returns ends the exchange.
type Transport struct {
	o Options

	mu      sync.Mutex // guards what follows; not held during I/O
	idle    []*conn    // the one used last at the end
	sweeper *time.Timer
	sweeps  bool // sweeper will fire
	retired bool // CloseIdleConnections was called, and no request since
}

var _ http.RoundTripper = (*Transport)(nil)

// New returns a Transport; nothing is dialled yet.
func New(o Options) *Transport {
	if o.HeadLimit == 0 {
		o.HeadLimit = headLimit
	}
	return &Transport{o: o}
}

// ErrVanished says that a connection is given up whose other end does not even
// acknowledge what it is sent.
var ErrVanished = errors.New("upstream, or the way to it, vanished: nothing is acknowledged any more")

var (
	errNoAnswer = errors.New("upstream closed the connection without an answer")
	errUnasked  = errors.New("upstream sent what nobody asked for")
	errConnect  = errors.New("CONNECT is not for this transport")

	// errStale says that nothing was sent, as the connection was not sound.
	errStale = errors.New("kept connection is not sound")
)

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if ctx.Err() != nil {
		closeBody(req)
		return nil, context.Cause(ctx)
	}
	retried := false
	for {
		x := exchanges.Get().(*exchange)
		x.t, x.req, x.buf, x.trace = t, req, takeBuffer(), httptrace.ContextClientTrace(ctx)
		if err := x.prepare(); err != nil {
			x.buf.release()
			closeBody(req)
			return nil, err
		}
		if x.trace != nil && x.trace.GetConn != nil {
			x.trace.GetConn(req.URL.Host)
		}
		c, err := t.conn(ctx, req, retried)
		if err != nil {
			x.buf.release()
			closeBody(req)
			return nil, err
		}
		reused := c.reused
		err = x.run(ctx, c)
		switch {
		case err == nil:
			return &x.res, nil
		case err == errStale && reused:
			continue
		case reused && !retried && !x.began && idempotent(req) && !isTimeout(err) && ctx.Err() == nil:
			retried = true
			continue
		}
		if !x.sending() {
			closeBody(req) // otherwise the upload closes it
		}
		return nil, err
	}
}

// conn returns a connection for req: a kept one, unless it must be fresh.
func (t *Transport) conn(ctx context.Context, req *http.Request, fresh bool) (*conn, error) {
	once := !idempotent(req)
	for !fresh {
		c := t.take()
		if c == nil {
			break
		}
		if c.stillUsable(once) {
			return c, nil
		}
		c.close()
		fresh = once // the others have rested for longer, but will do for requests that may be sent twice
	}
	nc, err := t.o.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return newConn(nc), nil
}

// idempotent reports whether req may be sent once more if its kept connection broke
// before any byte of the answer.
func idempotent(req *http.Request) bool {
	if hasBody(req) {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete,
		"PROPFIND", "REPORT", "SEARCH":
		return true
	}
	return false
}

func isTimeout(err error) bool {
	failure, ok := errors.AsType[net.Error](err)
	return ok && failure.Timeout()
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close() // the request has failed for a better reason
	}
}

// exchangeError says what a failed read of an answer means: err is what reading
// the connection returned.
func (x *exchange) exchangeError(err error) error {
	ctx := x.req.Context()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx) // it closed the connection
	case x.body != nil && x.body.failure() != nil:
		return x.body.failure() // it closed the connection
	case err == io.EOF && x.began:
		return io.ErrUnexpectedEOF
	case err == io.EOF:
		return errNoAnswer
	}
	return err
}

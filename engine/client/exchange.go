package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"detour/engine/lifetime"
	"detour/engine/wire"
)

// errSlow tells an operator more than the error of the read, "raw-read tcp".
var errSlow = fmt.Errorf("waiting for the upstream's answer: %w", os.ErrDeadlineExceeded)

var errHeadLong = errors.New("upstream's response head, or its trailers, are too long")

// exchange is one request and its answer, and is the answer's body, too. All but Close
// runs in the goroutine that called RoundTrip, and then in the one that reads the body.
type exchange struct {
	t     *Transport
	req   *http.Request
	trace *httptrace.ClientTrace // nil = none
	c     *conn
	stop  func() bool // ends the watch over the request's context
	start time.Time

	head      int     // until it is sent, the request head is buf.b[:head]
	sent      bool    // the request was sent, or its body is on its way
	body      *upload // nil = the request has none
	expecting bool    // body waits for a 100
	began     bool    // a byte of the answer has come

	buf     *buffer
	res     http.Response
	spare   http.Header // empty, for res; nil = none
	coding  [1]string   // for res.TransferEncoding
	framing bodyFraming
	left    int64 // of a body with a length
	chunked wire.Chunked
	reuse   bool // the head allows that the connection is used again

	state atomic.Int32 // of the body, see body.go
	err   error        // what the body ended with; set before state says so
}

// prepare writes the request head into the buffer. Nothing is sent when it
// fails.
func (x *exchange) prepare() error {
	head, err := appendHead(x.buf.b[:0], x.req)
	if err != nil {
		return err
	}
	x.head = len(head)
	if cap(head) > len(x.buf.b) {
		x.buf.b = head[:cap(head)]
	}
	if hasBody(x.req) {
		x.body = &upload{body: x.req.Body, length: bodyLength(x.req), memory: x.t.o.Memory, trailer: x.req.Trailer}
		x.expecting = x.t.o.ContinueTimeout > 0 && expectsContinue(x.req)
	}
	return nil
}

// run sends the request over c and receives the answer, which is then res. After an
// error c is closed and the buffer is gone.
func (x *exchange) run(ctx context.Context, c *conn) error {
	x.c = c
	x.start = time.Now()
	c.asked = x.start
	x.stop = lifetime.AfterFunc(ctx, c.abort)
	err := x.receive()
	if err == nil {
		return nil
	}
	x.stop()
	if c.reused && !x.began && (isTimeout(err) || err == ErrVanished) {
		x.t.dropIdle() // they may lead to a machine that vanished
	}
	err = x.exchangeError(err) // now, before close makes an upload fail too
	c.close()
	x.buf.release()
	return err
}

// sending reports whether the body is being sent, or was. Then the upload closes it.
func (x *exchange) sending() bool { return x.body != nil && x.body.started }

// receive waits for the final answer. The trace gets the 1xx.
func (x *exchange) receive() error {
	x.armDeadline(x.start)
	limit := x.t.o.HeadLimit
	for {
		end, err := x.readBlock(limit, wire.LooksLikeResponse)
		if err != nil {
			return err
		}
		block := x.buf.rest()[:end]
		x.buf.fields = x.buf.fields[:0]
		h, err := wire.ParseResponse(block, &x.buf.fields)
		if err != nil {
			return err
		}
		x.buf.r += end
		if h.Status >= 200 || h.Status == http.StatusSwitchingProtocols {
			return x.answer(h, block)
		}
		if err := x.interim(h.Status, block); err != nil {
			return err
		}
		if x.trace == nil || x.trace.Got1xxResponse == nil {
			if limit -= end; limit <= 0 {
				return errHeadLong
			}
		}
	}
}

// readBlock receives until rest begins with a whole block of lines and returns
// its length. plausible looks at what there is of it; nil = anything is.
func (x *exchange) readBlock(limit int, plausible func([]byte) bool) (int, error) {
	for scanned := 0; ; {
		rest := x.buf.rest()
		end, err := wire.ResponseEnd(rest, scanned)
		switch {
		case plausible != nil && !plausible(rest):
			return 0, wire.MalformedResponse("not HTTP/1")
		case err != nil:
			return 0, err
		case end > limit || end == 0 && len(rest) >= limit:
			return 0, errHeadLong
		case end > 0:
			return end, nil
		}
		scanned = len(rest)
		if !x.buf.makeRoom(max(limit, bufferSize)) {
			return 0, errHeadLong
		}
		if err := x.fill(); err != nil {
			return 0, err
		}
	}
}

// fill receives something into the buffer, which has room. Before the answer's
// first byte it sends the request.
func (x *exchange) fill() error {
	if x.res.StatusCode != 0 { // of trailers
		n, err := x.receiveInto(x.buf.free())
		x.buf.w += n
		return err
	}
	for {
		var n int
		var err error
		if x.began {
			n, err = x.c.nc.Read(x.buf.free())
		} else {
			n, err = x.c.exchangeFirst(x)
		}
		switch {
		case n > 0:
			x.buf.w += n
			if !x.began {
				x.firstByte()
			}
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if err := x.stillTime(); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
}

func (x *exchange) firstByte() {
	x.began = true
	if x.trace != nil && x.trace.GotFirstResponseByte != nil {
		x.trace.GotFirstResponseByte()
	}
}

// send sends the request, or has the upload do that. The connection is sound. It must
// not be closed here: the poller, which may be the caller, would wait for itself. fd is
// what the poller says, or noSocket.
func (x *exchange) send(fd uintptr) error {
	x.sent = true
	if x.trace != nil && x.trace.GotConn != nil {
		x.trace.GotConn(httptrace.GotConnInfo{Conn: x.c.nc, Reused: x.c.reused, WasIdle: x.c.reused})
	}
	large := x.head > bufferSize // otherwise it fits into the socket's buffer
	if large {
		x.armWriteDeadline()
	}
	var err error
	switch {
	case x.body == nil:
		err = fatal(x.c.write(fd, x.buf.b[:x.head]))
	case x.expecting:
		x.body.prepare(x)
		x.body.sendHead() // of a failure the upload learns
	default:
		x.body.prepare(x)
		x.startBody()
	}
	if large {
		x.disarmWriteDeadline()
	}
	return err
}

// fatal is err, the failure of a write, or nil if the upstream may have answered and
// closed: then there may be an answer to read, and reading tells what happened.
func fatal(err error) error {
	if err == nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// interim tells the trace of a 1xx.
func (x *exchange) interim(status int, block []byte) error {
	if status == http.StatusContinue {
		if x.trace != nil && x.trace.Got100Continue != nil {
			x.trace.Got100Continue()
		}
		if x.expecting {
			x.startBody()
			x.armDeadline(time.Now())
		}
	}
	if x.trace == nil || x.trace.Got1xxResponse == nil {
		return nil
	}
	header := makeHeader(nil, string(block), block, x.buf.fields)
	return x.trace.Got1xxResponse(status, textproto.MIMEHeader(header))
}

// finish ends the exchange: the connection is kept, if it may be, or closed.
func (x *exchange) finish(clean bool) {
	watched := x.stop() // false = the context has ended, and the connection is being closed
	keep := clean && watched && x.reuse && x.buf.r == x.buf.w && (x.body == nil || x.body.done())
	x.buf.release()
	x.buf = nil
	if keep {
		x.t.put(x.c)
	} else {
		x.c.close()
	}
}

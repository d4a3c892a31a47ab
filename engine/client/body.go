package client

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"syscall"

	"detour/engine/wire"
)

// errBodyClosed has the words of http.Transport's.
var errBodyClosed = errors.New("read on closed response body")

// bodyFraming is what tells the end of a body.
type bodyFraming uint8

const (
	framedByLength bodyFraming = iota
	framedByChunks
	framedByTrailers // the chunks are over
	framedByClose
)

// The states of a body. One goroutine may read while another one closes.
const (
	bodyIdle    int32 = iota
	bodyReading       // whoever reads owns the exchange
	bodyClosed
	bodyEnded // err is set, the exchange is over
)

// Read implements io.Reader for the answer's body. The last bytes come together with
// io.EOF; a body that broke off ends with another error.
func (x *exchange) Read(p []byte) (int, error) {
	if !x.state.CompareAndSwap(bodyIdle, bodyReading) {
		if x.state.Load() == bodyEnded {
			return 0, x.err
		}
		return 0, errBodyClosed
	}
	n, err := x.readBody(p)
	if err == nil {
		if x.state.CompareAndSwap(bodyReading, bodyIdle) {
			return n, nil
		}
		err = errBodyClosed
	}
	if err != io.EOF && err != errBodyClosed {
		err = x.bodyError(err)
	}
	x.err = err
	closed := x.state.Swap(bodyEnded) == bodyClosed
	x.finish(err == io.EOF && !closed)
	if closed && err != io.EOF {
		x.err = errBodyClosed
		return 0, errBodyClosed
	}
	return n, err
}

// bodyError is exchangeError for an answer that broke off.
func (x *exchange) bodyError(err error) error {
	if err == errEarlyEnd {
		return x.exchangeError(io.EOF)
	}
	return x.exchangeError(err)
}

// Close implements io.Closer for the answer's body. It may be called while another
// goroutine reads, whose Read then fails. If more of the body would come on the
// connection, that is closed.
func (x *exchange) Close() error {
	switch x.state.Swap(bodyClosed) {
	case bodyIdle:
		x.finish(x.skipRest())
	case bodyReading:
		x.c.close() // the reader calls finish
	}
	return nil
}

// skipRest skips the rest of the body if all of it is here, and reports whether it is.
func (x *exchange) skipRest() bool {
	rest := x.buf.rest()
	if x.framing != framedByLength || int64(len(rest)) < x.left {
		return false
	}
	x.buf.r += int(x.left)
	return true
}

// errEarlyEnd is the end of the connection where more had to come.
var errEarlyEnd = errors.New("early end")

// readBody reads the body, at whose end it returns io.EOF. The end of the connection is
// errEarlyEnd, unless it is what ends the body.
func (x *exchange) readBody(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	switch x.framing {
	case framedByLength:
		if int64(len(p)) > x.left {
			p = p[:x.left]
		}
		n, err := x.readPlain(p)
		if x.left -= int64(n); x.left == 0 {
			return n, io.EOF
		}
		return n, early(err)
	case framedByClose:
		n, err := x.readPlain(p)
		if err == io.EOF && x.sending() && x.body.wasReset() {
			err = syscall.ECONNRESET
		}
		return n, err
	}
	return x.readChunks(p)
}

func early(err error) error {
	if err == io.EOF {
		return errEarlyEnd
	}
	return err
}

// readPlain reads from the buffer or, if that is empty and p is large, past it.
func (x *exchange) readPlain(p []byte) (int, error) {
	if x.buf.r == x.buf.w {
		if len(p) >= bufferSize/2 {
			return x.receiveInto(p)
		}
		if err := x.refill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, x.buf.rest())
	x.buf.r += n
	return n, nil
}

// readChunks reads a chunked body. What is received straight into p is decoded there.
func (x *exchange) readChunks(p []byte) (int, error) {
	for x.framing == framedByChunks {
		var data, n int
		var done bool
		var err error
		if rest := x.buf.rest(); len(rest) > 0 {
			rest = rest[:min(len(rest), len(p))]
			data, n, done, err = x.chunked.Decode(rest)
			copy(p, rest[:data])
			x.buf.r += n
		} else if len(p) >= bufferSize/2 {
			var got int
			if got, err = x.receiveInto(p); err != nil {
				return 0, early(err)
			}
			data, n, done, err = x.chunked.Decode(p[:got])
			x.buf.hold(p[n:got])
		} else if err := x.refill(); err != nil {
			return 0, early(err)
		}
		if done {
			x.framing = framedByTrailers
			if end, _ := wire.ResponseEnd(x.buf.rest(), 0); end > 0 {
				return data, x.readTrailers() // they are here already
			}
		}
		if data > 0 || err != nil {
			return data, wire.OfResponse(err)
		}
	}
	return 0, x.readTrailers()
}

// readTrailers returns io.EOF when the trailer section was read.
func (x *exchange) readTrailers() error {
	end, err := x.readBlock(x.t.o.HeadLimit, nil)
	if err != nil {
		return early(err)
	}
	x.buf.fields = x.buf.fields[:0]
	block := x.buf.rest()[:end]
	if err := wire.ParseResponseTrailers(block, &x.buf.fields); err != nil {
		return err
	}
	x.buf.r += end
	if len(x.buf.fields) > 0 {
		trailer := makeHeader(nil, string(block), block, x.buf.fields)
		if x.res.Trailer == nil {
			x.res.Trailer = make(http.Header, len(trailer))
		}
		maps.Copy(x.res.Trailer, trailer)
	}
	return io.EOF
}

// refill receives something into the buffer, which is empty.
func (x *exchange) refill() error {
	x.buf.r, x.buf.w = 0, 0
	n, err := x.receiveInto(x.buf.b)
	x.buf.w = n
	return err
}

// receiveInto reads from the connection, after the head. A deadline that passes is an
// old one, or says when to look after the request's body.
func (x *exchange) receiveInto(p []byte) (int, error) {
	for again := false; ; again = true {
		n, err := x.c.nc.Read(p)
		if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && x.stillMoves(again) {
			continue
		}
		if n > 0 {
			err = nil // it will come again
		}
		return n, err
	}
}

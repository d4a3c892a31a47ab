package server

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"sync"
	"sync/atomic"

	"detour/engine/wire"
)

const (
	// maxDrain is how much of a body that the handler did not read is discarded to
	// keep the connection: about as much as is on its way already. It is
	// net/http's.
	maxDrain = 256 << 10

	// maxTrailers bounds a trailer section. It is net/http's.
	maxTrailers = 4 << 10
)

// body is the body of a request. Reading it beside Close is allowed.
type body struct {
	conn    *conn
	request *http.Request
	expect  *response // asks the client to send first; nil = need not

	eof atomic.Bool // all is read; set while mu is held, but read without it

	mu       sync.Mutex // guards the rest; held while reading
	left     int64      // of a body with a length
	chunked  bool
	chunks   wire.Chunked
	trailing bool  // the chunks are read, the trailers not
	err      error // what reading failed with, for good
	closed   bool  // by the handler, or because it is done
	draining bool  // what is left is being discarded
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return 0, http.ErrBodyReadAfterClose
	case b.expect != nil && !b.eof.Load():
		b.expect.sendContinue()
	}
	return b.read(p)
}

// read reads the body, to be used or discarded. mu is held.
func (b *body) read(p []byte) (n int, err error) {
	switch {
	case b.eof.Load():
		return 0, io.EOF
	case b.err != nil:
		return 0, b.err
	case len(p) == 0:
		return 0, nil
	case b.chunked:
		n, err = b.readChunked(p)
	default:
		n, err = b.readLength(p)
	}
	if err != nil && b.conn.isFinal(err) {
		b.err = err
	}
	if b.eof.Load() {
		b.conn.in.release()
		b.conn.bodyRead(b.conn.in.len() > 0)
		return n, io.EOF
	}
	if n > 0 {
		err = nil // it will come again
	}
	return n, err
}

// receive reads from c.in, or, if that is empty, from the connection.
func (b *body) receive(p []byte) (int, error) {
	c := b.conn
	if in := c.in.bytes(); len(in) > 0 {
		n := copy(p, in)
		c.in.skip(n)
		c.in.release()
		return n, nil
	}
	b.start()
	n, err := c.rwc.Read(p)
	if n > 0 {
		if c.batch != nil {
			n += c.batch.more(c.rwc, p[n:])
		}
		return n, nil // an error that came with bytes will come again
	}
	if err == nil {
		return 0, io.ErrNoProgress
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	c.lost()
	return 0, err
}

// start limits the time of a read from the connection. What is discarded has one
// limit for all of it, which drain has set.
func (b *body) start() {
	if !b.draining {
		b.conn.startBody(true)
	}
}

func (b *body) readLength(p []byte) (int, error) {
	n, err := b.receive(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	b.eof.Store(b.left == 0)
	return n, err
}

// readChunked reads the chunks into p, and moves their content together there.
func (b *body) readChunked(p []byte) (n int, err error) {
	for !b.trailing {
		m, err := b.receive(p)
		if err != nil {
			return 0, err
		}
		content, used, done, err := b.chunks.Decode(p[:m])
		if err != nil {
			return content, err
		}
		b.trailing = done
		b.conn.in.unread(p[used:m])
		if content > 0 && !done {
			return content, nil
		}
		n = content
	}
	return n, b.readTrailers(n > 0)
}

// readTrailers reads the trailer section. If content is waiting to be returned it
// does not wait for more.
func (b *body) readTrailers(waiting bool) error {
	c := b.conn
	scanned := 0
	for {
		in := c.in.bytes()
		end, err := wire.HeadEnd(in, scanned)
		switch {
		case err != nil:
			return err
		case end > maxTrailers || end == 0 && len(in) >= maxTrailers:
			return errTrailersTooLong
		case end > 0:
			return b.trailers(in[:end])
		case waiting:
			return nil
		}
		scanned = len(in)
		b.start()
		if err := c.in.read(c.rwc, maxTrailers); err != nil {
			c.lost()
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
}

var errTrailersTooLong = errors.New("trailers too long")

// trailers gives the request the trailers in section, and ends the body.
func (b *body) trailers(section []byte) error {
	if len(section) > 2 {
		fields := b.conn.in.store.fields[:0]
		if err := wire.ParseTrailers(section, &fields); err != nil {
			return err
		}
		t := make(http.Header, len(fields))
		for _, f := range fields {
			key := textproto.CanonicalMIMEHeaderKey(string(f.Name))
			t[key] = append(t[key], string(f.Value))
		}
		if b.request.Trailer == nil {
			b.request.Trailer = t
		} else {
			maps.Copy(b.request.Trailer, t) // others may know that map
		}
	}
	b.conn.in.skip(len(section))
	b.eof.Store(true)
	return nil
}

// Close implements io.Closer for the handler, which wants no more. A short rest is
// discarded, so that the connection can be kept.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	err := b.drain()
	b.closed = true
	return err
}

// drain discards what is left, if that is little. mu is held.
func (b *body) drain() error {
	if b.eof.Load() || b.left > maxDrain || b.expect != nil && !b.expect.mayRead() {
		return nil
	}
	b.conn.startBody(false)
	b.draining = true
	defer func() { b.draining = false }()
	scratch := drainPool.Get().(*[]byte)
	defer drainPool.Put(scratch)
	for n := 0; n <= maxDrain; {
		m, err := b.read(*scratch)
		n += m
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var drainPool = sync.Pool{New: func() any { b := make([]byte, 8<<10); return &b }}

// finish takes the body from the handler, and from whatever that left running, and
// reports whether all of it was read; with tryHard it first discards a short rest.
func (b *body) finish(tryHard bool) (all bool) {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if tryHard && !b.closed {
		_ = b.drain()
	}
	b.closed = true
	return b.eof.Load()
}

// abandon takes the body from a handler that takes the connection.
func (b *body) abandon() {
	if b == nil {
		return
	}
	if !b.mu.TryLock() { // somebody reads
		b.conn.interrupt()
		b.mu.Lock()
	}
	b.closed = true
	b.mu.Unlock()
}

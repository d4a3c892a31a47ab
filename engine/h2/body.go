package h2

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

var errBodyClosed = fmt.Errorf("h2: %w", http.ErrBodyReadAfterClose)

// requestBody is the Body of a request: what the client sent and the handler
// has not read yet, at most the stream's window.
type requestBody struct {
	st     *stream
	mu     sync.Mutex // guards bodyState; may be locked while Conn.mu is
	arrive sync.Cond  // data, or the end
	bodyState
}

type bodyState struct {
	trailer  http.Header // the request's Trailer; nil = none was announced, or it is filled in
	received http.Header // trailers that came; written before end

	pieces [][]byte  // borrowed
	next   int       // pieces[0][next:] is not read yet
	err    error     // what Read returns after the data
	closed bool      // nothing more will be read
	since  time.Time // since when a Read waits; zero = none does
	expect bool      // the client waits for "100 Continue" before it sends
}

// add takes data from the client. It reports whether somebody may read it.
func (b *requestBody) add(data []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.err != nil {
		return false
	}
	for len(data) > 0 {
		last := len(b.pieces) - 1
		if last < 0 || len(b.pieces[last]) == cap(b.pieces[last]) {
			size := min(len(data), frameBuffer)
			if last >= 0 {
				size = frameBuffer // it goes on and on
			}
			b.pieces = append(b.pieces, borrow(size))
			last++
		}
		p := b.pieces[last]
		n := copy(p[len(p):cap(p)], data)
		b.pieces[last] = p[:len(p)+n]
		data = data[n:]
	}
	b.arrive.Signal()
	return true
}

// end says that no more data comes, and why: io.EOF = that was all. From then on
// received may be read.
func (b *requestBody) end(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
	b.arrive.Signal()
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.expect {
		b.expect = false
		if !b.closed && b.err == nil && len(b.pieces) == 0 {
			b.mu.Unlock()
			b.st.writer.sendContinue()
			b.mu.Lock()
		}
	}
	for len(b.pieces) == 0 && b.err == nil && !b.closed {
		if len(p) == 0 {
			break
		}
		if b.since.IsZero() {
			b.since = b.st.c.now()
		}
		b.arrive.Wait()
	}
	b.since = time.Time{}
	n, err := b.take(p)
	b.mu.Unlock()
	if n > 0 {
		c := b.st.c
		c.mu.Lock()
		c.credit(b.st, n)
		if len(c.out) > 0 {
			c.kick()
		}
		c.mu.Unlock()
	}
	return n, err
}

// waitsSince returns since when a Read waits; zero = none does.
func (b *requestBody) waitsSince() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since
}

// take moves what is there into p. mu is held.
func (b *requestBody) take(p []byte) (n int, err error) {
	if b.closed {
		return 0, errBodyClosed
	}
	for len(p) > 0 && len(b.pieces) > 0 {
		piece := b.pieces[0]
		m := copy(p, piece[b.next:])
		n, p = n+m, p[m:]
		if b.next += m; b.next == len(piece) {
			b.drop()
		}
	}
	if n > 0 || len(b.pieces) > 0 || b.err == nil {
		return n, nil
	}
	if b.err == io.EOF && b.trailer != nil {
		for name := range b.trailer {
			if values, ok := b.received[name]; ok {
				b.trailer[name] = values
			}
		}
		b.trailer = nil
	}
	return 0, b.err
}

// drop gives the first piece back. mu is held.
func (b *requestBody) drop() {
	giveBack(b.pieces[0])
	b.next = 0
	m := copy(b.pieces, b.pieces[1:])
	b.pieces[m] = nil
	b.pieces = b.pieces[:m]
}

// Close implements io.Closer. It may be called while a Read is under way, and ends it.
func (b *requestBody) Close() error {
	n := b.discard()
	c := b.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.credit(nil, n)
	c.kick()
	return nil
}

// discard forgets what was not read, and returns how much that was.
func (b *requestBody) discard() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for len(b.pieces) > 0 {
		n += len(b.pieces[0]) - b.next
		b.drop()
	}
	b.arrive.Broadcast()
	return n
}

package proxy

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// An HTTP/2 upstream that closes a connection does not look at requests that are
// on their way there. So that they can be sent again, keepAtMost of a body is kept:
// a form, and of an upload all that such an upstream lets us send, which is a window
// of 64 KiB, and a piece that was read ahead of it.
const (
	keepAtMost = 96 << 10
	keepPiece  = 16 << 10
)

// requestBody is a request's body on its way to the upstream. It tells a client's
// failure from an upstream's, counts against max_body, and lets go of the client's body
// before the handler returns: a RoundTripper may return an answer, and even the end of
// that, while it still reads.
type requestBody struct {
	src     io.Reader
	trailer http.Header // complete when src has ended; nil = none
	limited bool
	left    int64 // bytes still allowed when limited; only next's
	coming  int64 // bytes still to come if the client said how many; only next's

	// To be sent again; only next's while a Read is on the way, else guarded by mu.
	keeps bool   // kept is all that was read of src
	kept  []byte // at most keepAtMost
	given int    // how much of kept was read, this time

	mu      sync.Mutex // guards what follows; never held while reading
	idle    sync.Cond  // reading became false
	reading bool       // a Read is on the way
	begun   bool       // there was a Read
	closed  bool       // there will be no further Read
	whole   bool       // nothing more will come
	err     error      // why the client's side failed; nil = it did not

	limit    time.Duration // for the upstream to take what was read; 0 = none
	stuck    func()        // called if it did not
	watch    *time.Timer   // calls look; nil = nothing was read yet
	answered bool          // the head of the answer is here

	moves atomic.Bool // a part of the answer's body has come since look
}

// newRequestBody returns the body to forward and its length, -1 = unknown.
// There is none (nil, 0) when the client sent none: to an HTTP/1 upstream a GET
// or PROPFIND with an unknown length would become a chunked one, which some
// servers refuse.
func newRequestBody(r *http.Request, limit int64) (*requestBody, int64, error) {
	if r.Body == nil || r.Body == http.NoBody || r.ContentLength == 0 || r.Method == http.MethodConnect {
		return nil, 0, nil // the stream of a CONNECT is no body
	}
	if limit > 0 && r.ContentLength > limit {
		return nil, 0, errBodyTooLarge
	}
	b := &requestBody{src: r.Body, limited: limit > 0, left: limit, coming: r.ContentLength}
	b.idle.L = &b.mu
	if r.ContentLength < 0 && r.ProtoMajor >= 2 && r.Method != http.MethodPost && r.Method != http.MethodPut && r.Header["Expect"] == nil {
		// On HTTP/2 a frame of its own may end the stream, and quic-go never says
		// that the header did: the end, or the first byte, comes at once. Browsers
		// send a length of 0 with those two methods (Fetch, 4.6), which may also be
		// streams that begin late. What waits for a 100 has a body, and waits.
		first := make([]byte, 1)
		n, err := io.ReadFull(r.Body, first)
		switch {
		case err == io.EOF:
			return nil, 0, nil
		case err != nil:
			return nil, 0, clientError(r, err)
		}
		b.src = io.MultiReader(bytes.NewReader(first[:n]), r.Body)
	}
	return b, r.ContentLength, nil
}

// Read implements io.Reader for the RoundTripper.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return 0, http.ErrBodyReadAfterClose
	}
	b.reading, b.begun = true, true
	b.unwatch()
	b.mu.Unlock()

	n, err := b.next(p)

	b.mu.Lock()
	defer b.mu.Unlock()
	b.reading = false
	b.whole = b.whole || err == io.EOF || b.coming == 0
	b.idle.Signal()
	if err != nil && err != io.EOF && !b.closed {
		b.err = err
	}
	if b.limit > 0 && !b.closed && !(b.whole && b.answered) {
		limit := b.limit
		if b.whole {
			limit *= 2 // if this was taken, the limit for the answer's head comes first
		}
		if b.watch == nil {
			b.watch = time.AfterFunc(limit, b.look)
		} else {
			b.watch.Reset(limit)
		}
	}
	return n, err
}

// next reads what is kept and was not given yet, or src.
func (b *requestBody) next(p []byte) (int, error) {
	if b.given < len(b.kept) {
		n := copy(p, b.kept[b.given:])
		b.given += n
		return n, nil
	}
	if b.keeps {
		p = p[:min(len(p), keepPiece)]
	}
	n, err := b.src.Read(p)
	b.coming -= int64(n)
	if b.limited {
		if b.left -= int64(n); b.left < 0 {
			n, err = 0, errBodyTooLarge
		}
	}
	if b.keeps = b.keeps && len(b.kept)+n <= keepAtMost; b.keeps {
		b.kept = append(b.kept, p[:n]...)
	} else {
		b.kept = nil
	}
	b.given = len(b.kept)
	if err == io.EOF {
		dropForged(b.trailer)
	}
	return n, err
}

// Close implements io.Closer for the RoundTripper, which may call it while a
// Read is on the way, and, at the end of the body, before its last piece is sent.
func (b *requestBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if !b.whole {
		b.unwatch()
	}
	return nil
}

// limitPieces has stuck called when the upstream has not taken what was read of
// the body, so that more is read or the answer begins, within limit; 0 = none. An
// answer that keeps coming is not broken off for that.
func (b *requestBody) limitPieces(limit time.Duration, stuck func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit, b.stuck = limit, stuck
}

// answers notes that the answer begins.
func (b *requestBody) answers() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answered = true
	if b.whole {
		b.unwatch()
	}
}

// look is called when a piece was on its way for as long as it may be.
func (b *requestBody) look() {
	b.mu.Lock()
	taken := b.reading || b.whole && b.answered || b.closed && !b.whole // meanwhile, or nobody wants to know
	again := !taken && b.moves.Swap(false)
	if again {
		b.watch.Reset(b.limit)
	}
	b.mu.Unlock()
	if !taken && !again {
		b.stuck()
	}
}

// unwatch is called while b.mu is held.
func (b *requestBody) unwatch() {
	if b.watch != nil {
		b.watch.Stop()
	}
}

// keep keeps what is read, up to keepAtMost, unless some of it was already.
func (b *requestBody) keep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.begun {
		b.keeps = true
	}
}

// again is for http.Request.GetBody.
func (b *requestBody) again() (io.ReadCloser, error) {
	if !b.reopen() {
		return nil, errNotKept
	}
	return b, nil
}

// reopen puts a body back to the beginning that a RoundTripper has closed, as it
// does when there is no connection, or none that took the request. It reports
// whether it could: nothing was read, or all of that was kept.
func (b *requestBody) reopen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reading || b.begun && !b.keeps || b.err != nil {
		return false
	}
	b.unwatch() // nobody has it while it waits for a connection
	b.closed, b.given = false, 0
	return true
}

// complete reports whether all of the body has been read.
func (b *requestBody) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.whole
}

// failure is why the client's side failed; nil = it did not.
func (b *requestBody) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// release ends reading and waits for a Read on the way, which it cuts short:
// a client that sends the rest of a body that nobody wants is not waited for.
func (b *requestBody) release(rc *http.ResponseController) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.unwatch()
	if b.reading && rc.SetReadDeadline(time.Unix(1, 0)) == nil {
		for b.reading {
			b.idle.Wait()
		}
	}
}

package server

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"detour/engine/wire"
)

// response is the http.ResponseWriter of one request. Like net/http's it may be
// used by one goroutine at a time, beside another that reads the body.
//
// WriteHeader freezes the head: it writes the fields into out. How the body is framed
// is decided only by commit, when the body outgrows what is kept back, is flushed, or
// ends.
type response struct {
	conn    *conn
	request *http.Request
	body    *body   // of the request; nil = none
	options options // as the request had them when it came

	header  http.Header // the handler's; nil when the request is over
	status  int         // 0 until WriteHeader
	length  int64       // of the body, as declared; -1 = it was not
	written int64       // of the body, by the handler

	out    *[]byte // from outPool: what was not sent yet; nil = nothing
	frozen frozen
	bodyAt int  // until committed: (*out)[bodyAt:] is the body so far
	chunk  int  // while chunking: where in out the open chunk's line is; -1 = no chunk is open
	owes   bool // while chunking: the content of a chunk was sent, but not its end

	committed bool
	chunking  bool
	closing   bool // the connection ends after this answer
	limitHit  bool // too much of the request's body is left to be discarded
	duplex    bool // EnableFullDuplex was called
	done      bool // the handler returned
	hijacked  bool
	trailers  []string // announced

	continuing  sync.Mutex // guards the rest; held while a 100 is sent
	mayContinue bool       // the client waits for a 100, and no answer has begun
	continued   bool       // a 100 was sent
}

const (
	// keepBack is how much of a body is kept back until it is known how long it
	// is, or that it is longer than this. It is net/http's, so that both frame
	// alike.
	keepBack = 2 << 10

	// gather is how much of what is written in small pieces is sent at once. It is
	// the size of net/http's buffer.
	gather = 4 << 10

	// outBytes is the size of out: it fills one TLS record.
	outBytes = recordBytes
)

var outPool = sync.Pool{New: func() any { b := make([]byte, 0, outBytes); return &b }}

// putOut gives b back to outPool, unless it has grown.
func putOut(b *[]byte) {
	if cap(*b) <= 2*outBytes {
		*b = (*b)[:0]
		outPool.Put(b)
	}
}

var (
	errOver         = errors.New("the request is over")
	interimContinue = []byte("HTTP/1.1 100 Continue\r\n\r\n")
)

// sendContinue asks the client for the body, unless an answer has begun.
func (w *response) sendContinue() {
	w.continuing.Lock()
	defer w.continuing.Unlock()
	if w.mayContinue {
		w.mayContinue, w.continued = false, true
		_ = w.conn.write(interimContinue) // what reads next fails too
	}
}

// endContinue notes that an answer begins: the client is not asked any more.
func (w *response) endContinue() {
	if w.body != nil && w.body.expect != nil {
		w.continuing.Lock()
		w.mayContinue = false
		w.continuing.Unlock()
	}
}

// mayRead reports whether the client sends its body: one that was not asked for is
// not waited for.
func (w *response) mayRead() bool {
	w.continuing.Lock()
	defer w.continuing.Unlock()
	return w.continued
}

// Header returns the header that WriteHeader sends, which after that is for the
// trailers.
func (w *response) Header() http.Header {
	if w.header == nil {
		return make(http.Header) // for nobody
	}
	return w.header
}

func (w *response) WriteHeader(status int) {
	switch {
	case w.hijacked || w.done:
		if w.conn != nil {
			w.conn.server.ErrorLog.Debug("WriteHeader after the request was over", "client", w.conn.remote)
		}
		return
	case w.status != 0:
		w.conn.server.ErrorLog.Debug("superfluous WriteHeader", "client", w.conn.remote, "uri", w.request.RequestURI)
		return
	case status < 100 || status > 999:
		panic(fmt.Sprintf("invalid WriteHeader code %v", status))
	}
	if status == http.StatusContinue || status > 199 || status == http.StatusSwitchingProtocols {
		w.endContinue()
	}
	if status < 200 && status != http.StatusSwitchingProtocols {
		if status == http.StatusContinue {
			w.continuing.Lock()
			w.continued = true
			w.continuing.Unlock()
		}
		w.inform(status)
		return
	}
	w.freeze(status)
}

// admit prepares for n bytes of body, or says why they cannot be written.
func (w *response) admit(n int) error {
	switch {
	case w.hijacked:
		return http.ErrHijacked
	case w.done:
		return errOver
	case w.status == 0:
		w.WriteHeader(http.StatusOK)
	}
	if n == 0 {
		return nil
	}
	if !wire.BodyAllowed(w.status) {
		return http.ErrBodyNotAllowed
	}
	w.written += int64(n)
	if w.length >= 0 && w.written > w.length {
		return http.ErrContentLength
	}
	return nil
}

func (w *response) Write(p []byte) (int, error) {
	if err := w.admit(len(p)); err != nil || len(p) == 0 {
		return 0, err
	}
	if err := w.take(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// WriteString implements io.StringWriter.
func (w *response) WriteString(s string) (int, error) {
	if err := w.admit(len(s)); err != nil || s == "" {
		return 0, err
	}
	if !w.committed && w.kept()+len(s) <= keepBack {
		*w.out = append(*w.out, s...)
		return len(s), nil
	}
	if err := w.take([]byte(s)); err != nil {
		return 0, err
	}
	return len(s), nil
}

// kept is how much of the body is kept back.
func (w *response) kept() int { return len(*w.out) - w.bodyAt }

// ReadFrom implements io.ReaderFrom: it copies through a large buffer.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	b := copyPool.Get().(*[]byte)
	defer copyPool.Put(b)
	return io.CopyBuffer(struct{ io.Writer }{w}, src, *b)
}

// copyPool has buffers of the size that one batch of records carries.
var copyPool = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// take takes the next part of the body.
func (w *response) take(p []byte) error {
	if !w.committed {
		kept := w.kept()
		if kept+len(p) <= keepBack {
			*w.out = append(*w.out, p...)
			return nil
		}
		if kept > 0 {
			*w.out = append(*w.out, p[:keepBack-kept]...)
			p = p[keepBack-kept:]
		}
		w.commit(p)
	}
	if w.options.head {
		return nil
	}
	if w.chunking {
		return w.takeChunk(p)
	}
	return w.send(p, gather)
}

// send adds p to what has to be sent, and sends that if it is more than keep bytes.
func (w *response) send(p []byte, keep int) error {
	if w.out == nil && len(p) > keep {
		return w.conn.writeBoth(nil, p)
	}
	out := w.outgoing()
	if len(*out)+len(p) <= keep {
		*out = append(*out, p...)
		return nil
	}
	// What is in out already and the beginning of p make one record.
	if room := outBytes - len(*out); room > 0 {
		n := min(room, len(p))
		*out = append(*out, p[:n]...)
		p = p[n:]
	}
	err := w.conn.writeBoth(*out, p)
	w.drop()
	return err
}

// outgoing returns the buffer of what has to be sent.
func (w *response) outgoing() *[]byte {
	if w.out == nil {
		w.out = outPool.Get().(*[]byte)
	}
	return w.out
}

// drop gives the buffer back, so that none is held while the handler waits.
func (w *response) drop() {
	if w.out == nil {
		return
	}
	putOut(w.out)
	w.out = nil
}

// FlushError is what http.ResponseController calls.
func (w *response) FlushError() error {
	if err := w.admit(0); err != nil {
		return err
	}
	return w.flush()
}

// Flush implements http.Flusher.
func (w *response) Flush() { _ = w.FlushError() }

func (w *response) flush() error {
	if !w.committed {
		w.commit(nil)
	}
	if w.chunking {
		w.endChunk()
	}
	if w.out == nil || len(*w.out) == 0 {
		return nil
	}
	return w.send(nil, 0)
}

// Hijack implements http.Hijacker. What was read beyond the request is in the
// reader's buffer.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	switch {
	case w.hijacked:
		return nil, nil, http.ErrHijacked
	case w.done:
		return nil, nil, errOver
	}
	w.endContinue()
	if w.status != 0 {
		if err := w.flush(); err != nil {
			return nil, nil, err
		}
	}
	w.drop()
	w.hijacked = true
	w.body.abandon()
	return w.conn.surrender()
}

// SetReadDeadline is for http.ResponseController, like those that follow.
func (w *response) SetReadDeadline(t time.Time) error {
	if w.conn == nil {
		return errOver
	}
	return w.conn.setReadDeadline(w, t)
}

func (w *response) SetWriteDeadline(t time.Time) error {
	if w.conn == nil {
		return errOver
	}
	return w.conn.setWriteDeadline(w, t)
}

func (w *response) EnableFullDuplex() error {
	if w.done {
		return errOver
	}
	w.duplex = true
	return nil
}

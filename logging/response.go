package logging

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
)

// response is the ResponseWriter under AccessLog: it notes the status and
// counts the body. It has no ReadFrom on purpose: behind TLS there is no
// sendfile, and io.CopyBuffer would pass over its caller's buffer.
type response struct {
	rw     http.ResponseWriter
	head   bool          // HEAD: what is written is not sent
	status int           // the final status; 0 = none yet
	size   int64         // body bytes sent
	conn   *countingConn // nil = not hijacked
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.rw }

func (w *response) Header() http.Header { return w.rw.Header() }

func (w *response) WriteHeader(status int) {
	// 1xx are sent ahead of the answer, except 101, which ends HTTP.
	final := status >= 200 || status == http.StatusSwitchingProtocols
	if final && w.status == 0 {
		w.status = status
	}
	w.rw.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.begin()
	n, err := w.rw.Write(p)
	w.sent(int64(n))
	return n, err
}

func (w *response) WriteString(s string) (int, error) {
	w.begin()
	n, err := io.WriteString(w.rw, s)
	w.sent(int64(n))
	return n, err
}

func (w *response) Flush() { _ = w.FlushError() }

// FlushError is for http.ResponseController.
func (w *response) FlushError() error {
	w.begin() // a flush sends the header
	return http.NewResponseController(w.rw).Flush()
}

// Hijack implements http.Hijacker. The connection it returns counts the bytes
// of both directions.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.rw).Hijack()
	if err != nil {
		return nil, nil, err
	}
	if w.status == 0 {
		w.status = http.StatusSwitchingProtocols
	}
	counted := &countingConn{Conn: conn}
	w.conn = counted

	// What the client sent ahead is in rw's buffer already: it is counted,
	// and the buffer is tied to the counting connection behind it.
	early, _ := rw.Reader.Peek(rw.Reader.Buffered())
	early = bytes.Clone(early)
	rw.Reader.Reset(io.MultiReader(bytes.NewReader(early), counted))
	_, _ = rw.Reader.Peek(len(early)) // so that Buffered says what it said
	rw.Writer.Reset(counted)
	counted.read.Add(int64(len(early)))
	return counted, rw, nil
}

// begin notes the status of an answer whose header is sent implicitly.
func (w *response) begin() {
	if w.status == 0 {
		w.status = http.StatusOK
	}
}

func (w *response) sent(n int64) {
	if !w.head && w.status != http.StatusNoContent && w.status != http.StatusNotModified {
		w.size += n
	}
}

// countingConn is a hijacked connection. Several goroutines use it, hence the
// atomics.
type countingConn struct {
	net.Conn
	read, sent atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

// CloseWrite passes a half-close on, as *net.TCPConn and *tls.Conn offer it.
func (c *countingConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection beneath, as *tls.Conn does.
func (c *countingConn) NetConn() net.Conn { return c.Conn }

// countingBody is a request's body. The upstream's client may still read it
// when the handler has returned, hence the atomic.
type countingBody struct {
	io.ReadCloser
	n atomic.Int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"strconv"
)

// h1 is an HTTP/1.1 client of a few microseconds a request, so that the proxy
// is what is busy. It reads just enough of an answer to know that it is right.
type h1 struct {
	conn *tls.Conn
	r    *bufio.Reader
	head []byte // the request's, ready to send
	body []byte // sent again and again until want.body is reached
	want request
}

func dialH1(ctx context.Context, t target, host string, want request) (*h1, error) {
	conn, err := t.handshake(ctx, host, "http/1.1")
	if err != nil {
		return nil, err
	}
	c := &h1{conn: conn, r: bufio.NewReaderSize(conn, 32<<10), want: want}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nAccept-Encoding: %s\r\n", want.method, want.path, host, want.accept)
	for _, line := range browserLines {
		fmt.Fprintf(&head, "%s: %s\r\n", textproto.CanonicalMIMEHeaderKey(line[0]), line[1])
	}
	if want.body > 0 {
		fmt.Fprintf(&head, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", want.body)
		c.body = make([]byte, 256<<10)
	}
	head.WriteString("\r\n")
	c.head = head.Bytes()
	return c, nil
}

func (c *h1) Close() error { return c.conn.Close() }

func (c *h1) run(more func() bool, t *tally) error {
	for more() {
		if _, err := c.conn.Write(c.head); err != nil {
			return err
		}
		for left := c.want.body; left > 0; left -= int64(len(c.body)) {
			if _, err := c.conn.Write(c.body[:min(left, int64(len(c.body)))]); err != nil {
				return err
			}
		}
		n, err := c.answer()
		if err != nil {
			return err
		}
		t.requests++
		t.bytes += n + c.want.body
	}
	return nil
}

var (
	contentLength    = []byte("content-length")
	contentEncoding  = []byte("content-encoding")
	transferEncoding = []byte("transfer-encoding")
)

// answer reads one answer and returns the bytes of its body.
func (c *h1) answer() (int64, error) {
	line, err := c.line()
	if err != nil {
		return 0, fmt.Errorf("read answer: %w", err)
	}
	if len(line) < 12 || string(line[9:12]) != strconv.Itoa(c.want.status) {
		return 0, fmt.Errorf("answer %q; want status %d", line, c.want.status)
	}
	var length int64
	var chunked bool
	encoding := ""
	for {
		if line, err = c.line(); err != nil {
			return 0, fmt.Errorf("read header: %w", err)
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, contentLength):
			if length, err = strconv.ParseInt(string(value), 10, 64); err != nil {
				return 0, err
			}
		case bytes.EqualFold(name, contentEncoding):
			encoding = string(value)
		case bytes.EqualFold(name, transferEncoding):
			chunked = true
		}
	}
	if encoding != c.want.encoding {
		return 0, fmt.Errorf("content-encoding %q; want %q", encoding, c.want.encoding)
	}
	n := length
	if chunked {
		n, err = c.chunks()
	} else {
		err = c.discard(length)
	}
	if err != nil {
		return 0, fmt.Errorf("read body: %w", err)
	}
	if c.want.size > 0 && n != c.want.size {
		return 0, fmt.Errorf("body of %d bytes; want %d", n, c.want.size)
	}
	return n, nil
}

// line reads a line without its end.
func (c *h1) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(line[:len(line)-1], []byte("\r")), nil
}

// chunks reads a chunked body and returns its bytes without the framing.
func (c *h1) chunks() (int64, error) {
	var sum int64
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseInt(string(size), 16, 64)
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		sum += n
		if err := c.discard(n + 2); err != nil { // with the line end behind the chunk
			return 0, err
		}
	}
	for { // trailers
		line, err := c.line()
		if err != nil || len(line) == 0 {
			return sum, err
		}
	}
}

func (c *h1) discard(n int64) error {
	_, err := c.r.Discard(int(n))
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// newcomer is a client that comes anew for every request: with a full
// handshake, or, when its target keeps sessions, with one that must resume the
// session of the visit before.
type newcomer struct {
	ctx    context.Context
	target target
	host   string
	want   request
	known  bool // it was here before
}

func (c *newcomer) Close() error { return nil }

func (c *newcomer) run(more func() bool, t *tally) error {
	for more() {
		if err := c.visit(t); err != nil {
			return err
		}
	}
	return nil
}

func (c *newcomer) visit(t *tally) error {
	visit, err := dialH1(c.ctx, c.target, c.host, c.want)
	if err != nil {
		return err
	}
	defer visit.Close()
	resumed, want := visit.conn.ConnectionState().DidResume, c.known && c.target.sessions != nil
	if resumed != want {
		return fmt.Errorf("handshake resumed a session: %t; want %t", resumed, want)
	}
	c.known = true
	return visit.run(once()(0), t) // reads the answer, and with it the ticket for the next visit
}

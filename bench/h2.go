//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is an HTTP/2 client with a number of streams always open. One goroutine
// reads and writes, and what it has to say leaves when nothing is left to
// read: many streams share a packet, as from a busy browser.
type h2 struct {
	conn    *tls.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	fr      *http2.Framer
	enc     *hpack.Encoder
	block   bytes.Buffer // what enc writes into
	host    string
	want    request
	streams int
	next    uint32 // id of the next stream
	unacked uint32 // bytes read since the last WINDOW_UPDATE
	up      upload
}

// upload is the body that the one stream of a connection sends.
type upload struct {
	left         int64  // bytes to send
	stream, conn int64  // windows the server gave and that are not used up
	initial      int64  // a new stream's window
	chunk        []byte // sent again and again
}

// maxFrame is the largest frame that every server takes (RFC 9113, 4.2), and
// initialWindow what it takes before it has said so itself (6.9.2).
const (
	maxFrame      = 16 << 10
	initialWindow = 64<<10 - 1
)

// h2Window is the space a client gives to answers, for a stream and for the
// connection; browsers give 6 to 16 MiB.
const h2Window = 8 << 20

func dialH2(ctx context.Context, t target, host string, want request, streams int) (*h2, error) {
	conn, err := t.handshake(ctx, host, "h2")
	if err != nil {
		return nil, err
	}
	c := &h2{
		conn: conn, r: bufio.NewReaderSize(conn, 32<<10), w: bufio.NewWriterSize(conn, 16<<10),
		host: host, want: want, streams: streams, next: 1,
		up: upload{conn: initialWindow, initial: initialWindow, chunk: make([]byte, maxFrame)},
	}
	if want.body > 0 && streams != 1 {
		conn.Close()
		return nil, errors.New("uploads have one stream a connection")
	}
	c.fr = http2.NewFramer(c.w, c.r)
	c.fr.SetReuseFrames()
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.enc = hpack.NewEncoder(&c.block)
	_, _ = c.w.WriteString(http2.ClientPreface) // an error of w stays until Flush
	_ = c.fr.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: h2Window},
	)
	_ = c.fr.WriteWindowUpdate(0, h2Window)
	if err := c.w.Flush(); err != nil {
		conn.Close()
		return nil, err
	}
	return c, nil
}

func (c *h2) Close() error { return c.conn.Close() }

func (c *h2) run(more func() bool, t *tally) error {
	open, before := 0, *t
	for {
		for open < c.streams && more() {
			if err := c.ask(); err != nil {
				return err
			}
			open++
		}
		if err := c.push(); err != nil {
			return err
		}
		if open == 0 {
			return cmp.Or(c.w.Flush(), c.checkSize(t.requests-before.requests, t.bytes-before.bytes))
		}
		if c.r.Buffered() == 0 {
			if err := c.w.Flush(); err != nil {
				return err
			}
		}
		ended, err := c.read(t)
		if err != nil {
			return err
		}
		if ended {
			if c.up.left > 0 {
				return fmt.Errorf("answer before the end of the upload: %d bytes are left", c.up.left)
			}
			open--
			t.requests++
			t.bytes += c.want.body
		}
	}
}

// ask opens a stream.
func (c *h2) ask() error {
	c.block.Reset()
	c.field(":method", c.want.method)
	c.field(":scheme", "https")
	c.field(":authority", c.host)
	c.field(":path", c.want.path)
	c.field("accept-encoding", c.want.accept)
	for _, line := range browserLines {
		c.field(line[0], line[1])
	}
	if c.want.body > 0 {
		c.field("content-type", "application/octet-stream")
		c.field("content-length", strconv.FormatInt(c.want.body, 10))
	}
	c.up.left, c.up.stream = c.want.body, c.up.initial
	id := c.next
	c.next += 2
	return c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndStream: c.want.body == 0, EndHeaders: true,
	})
}

// push sends as much of an upload as the windows allow.
func (c *h2) push() error {
	for {
		n := min(c.up.left, c.up.stream, c.up.conn, maxFrame)
		if n <= 0 {
			return nil
		}
		c.up.left -= n
		c.up.stream -= n
		c.up.conn -= n
		if err := c.fr.WriteData(c.next-2, c.up.left == 0, c.up.chunk[:n]); err != nil {
			return err
		}
	}
}

func (c *h2) field(name, value string) {
	_ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value}) // a bytes.Buffer takes everything
}

// read handles one frame and tells whether it ended a stream.
func (c *h2) read(t *tally) (ended bool, err error) {
	frame, err := c.fr.ReadFrame()
	if err != nil {
		return false, fmt.Errorf("read frame: %w", err)
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return f.StreamEnded(), c.check(f)
	case *http2.DataFrame:
		t.bytes += int64(len(f.Data()))
		return f.StreamEnded(), c.giveBack(f)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return false, nil
		}
		if window, ok := f.Value(http2.SettingInitialWindowSize); ok {
			c.up.stream += int64(window) - c.up.initial
			c.up.initial = int64(window)
		}
		return false, c.fr.WriteSettingsAck()
	case *http2.WindowUpdateFrame:
		switch f.StreamID {
		case 0:
			c.up.conn += int64(f.Increment)
		case c.next - 2:
			c.up.stream += int64(f.Increment)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return false, c.fr.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		return false, fmt.Errorf("stream was reset: %v", f.ErrCode)
	case *http2.GoAwayFrame:
		return false, fmt.Errorf("connection is closed by GOAWAY: %v %s", f.ErrCode, f.DebugData())
	}
	return false, nil
}

// check compares the header of an answer with what is wanted.
func (c *h2) check(f *http2.MetaHeadersFrame) error {
	status := f.PseudoValue("status")
	if status == "" {
		return nil // trailers
	}
	if status != strconv.Itoa(c.want.status) {
		return fmt.Errorf("status %s; want %d", status, c.want.status)
	}
	encoding := ""
	for _, field := range f.RegularFields() {
		if field.Name == "content-encoding" {
			encoding = field.Value
		}
	}
	if encoding != c.want.encoding {
		return fmt.Errorf("content-encoding %q; want %q", encoding, c.want.encoding)
	}
	return nil
}

// checkSize compares the bytes of n answers with what is wanted.
func (c *h2) checkSize(n, bytes int64) error {
	if c.want.size > 0 && bytes != n*c.want.size {
		return fmt.Errorf("bodies of %d bytes in %d answers; want %d each", bytes, n, c.want.size)
	}
	return nil
}

// giveBack returns the window a frame took, an eighth at a time.
func (c *h2) giveBack(f *http2.DataFrame) error {
	c.unacked += f.Length
	if c.unacked < h2Window/8 {
		return nil
	}
	n := c.unacked
	c.unacked = 0
	if !f.StreamEnded() && c.streams == 1 { // answers of loads with more streams fit into the first window
		if err := c.fr.WriteWindowUpdate(f.StreamID, n); err != nil {
			return err
		}
	}
	return c.fr.WriteWindowUpdate(0, n)
}

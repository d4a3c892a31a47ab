package h2

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is a client that says what it likes.
type raw struct {
	t testing.TB
	*http2.Framer
	conn net.Conn
}

func (g *rig) dialRaw(t testing.TB) *raw {
	t.Helper()
	c, err := tls.Dial("tcp", g.addr, g.conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := &raw{t: t, conn: c, Framer: http2.NewFramer(c, c)}
	r.AllowIllegalWrites = true
	r.AllowIllegalReads = true
	r.SetMaxReadFrameSize(1 << 20)
	return r
}

// dial is dialRaw with the greetings exchanged.
func (g *rig) dial(t testing.TB, settings ...http2.Setting) *raw {
	t.Helper()
	return g.dialRaw(t).greet(settings...)
}

// greet exchanges the greetings.
func (r *raw) greet(settings ...http2.Setting) *raw {
	r.t.Helper()
	if _, err := io.WriteString(r.conn, http2.ClientPreface); err != nil {
		r.t.Fatal(err)
	}
	if err := r.WriteSettings(settings...); err != nil {
		r.t.Fatal(err)
	}
	for acked := false; !acked; {
		f, err := r.ReadFrame()
		if err != nil {
			r.t.Fatal(err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok {
			if acked = s.IsAck(); !acked {
				r.WriteSettingsAck()
			}
		}
	}
	return r
}

// headers sends a whole request header, or a whole block of trailers.
func (r *raw) headers(id uint32, b []byte, end bool) error {
	return r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b, EndStream: end, EndHeaders: true})
}

func (r *raw) setting(id http2.SettingID, v uint32) {
	r.WriteSettings(http2.Setting{ID: id, Val: v})
}

// frame sends a frame of any kind.
func (r *raw) frame(kind http2.FrameType, flags http2.Flags, id uint32, payload string) {
	r.WriteRawFrame(kind, flags, id, []byte(payload))
}

func block(fields ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

// get is the block of a request in order, and more.
func get(more ...string) []byte { return request("GET", more...) }

func request(method string, more ...string) []byte {
	return block(append([]string{":method", method, ":scheme", "https", ":authority", "a.test", ":path", "/"}, more...)...)
}

func path(method, path string) []byte {
	return block(":method", method, ":scheme", "https", ":authority", "a.test", ":path", path)
}

// open opens a stream whose handler reads its body.
func (r *raw) open(id uint32) { r.headers(id, request("POST"), false) }

// unread opens a stream whose handler does not.
func (r *raw) unread(id uint32) { r.headers(id, request("POST", "x-wait", "1"), false) }

// half opens a stream whose request is complete, and whose handler waits.
func (r *raw) half(id uint32) { r.headers(id, get("x-wait", "1"), true) }

// done has a request answered.
func (r *raw) done(id uint32) {
	r.headers(id, get(), true)
	r.until("the answer", endOf(id))
}

// until reads frames until one satisfies ok.
func (r *raw) until(what string, ok func(http2.Frame) bool) http2.Frame {
	r.t.Helper()
	for {
		f, err := r.ReadFrame()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", what, err)
		}
		if ok(f) {
			return f
		}
	}
}

func isGoAway(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok }

func endOf(id uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool {
		h := f.Header()
		return h.StreamID == id && (h.Type == http2.FrameHeaders || h.Type == http2.FrameData) && h.Flags.Has(http2.FlagDataEndStream)
	}
}

// closed waits until the server has closed the connection.
func (r *raw) closed() {
	r.t.Helper()
	for {
		if _, err := r.ReadFrame(); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				r.t.Error("the connection was left open")
			}
			return
		}
	}
}

// outcome is what a client may see of a frame: "stream CODE", "connection
// CODE", "status 200" or "nothing" (the connection answers a PING).
type outcome string

// outcome reads until the first thing that says what the server thought of it.
// An answer may be slower than that of a PING, so there is none where one is
// expected.
func (r *raw) outcome(want outcome) outcome {
	if !strings.HasPrefix(string(want), "status") {
		r.WritePing(false, [8]byte{1})
	}
	d := hpack.NewDecoder(4096, nil)
	for {
		f, err := r.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "silence"
		case err != nil:
			return "closed"
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				if _, err := io.Copy(io.Discard, r.conn); errors.Is(err, os.ErrDeadlineExceeded) {
					return "connection left open"
				}
			}
			return onConn(f.ErrCode)
		case *http2.RSTStreamFrame:
			return onStream(f.ErrCode)
		case *http2.HeadersFrame:
			fields, _ := d.DecodeFull(f.HeaderBlockFragment())
			if len(fields) == 0 {
				return "status missing"
			}
			return outcome("status " + fields[0].Value)
		case *http2.PingFrame:
			if f.IsAck() {
				return nothing
			}
		}
	}
}

func onStream(code http2.ErrCode) outcome { return outcome("stream " + code.String()) }
func onConn(code http2.ErrCode) outcome   { return outcome("connection " + code.String()) }
func status(code int) outcome             { return outcome(fmt.Sprint("status ", code)) }

const nothing outcome = "nothing"

const (
	noErr    = http2.ErrCodeNo
	protocol = http2.ErrCodeProtocol
	flow     = http2.ErrCodeFlowControl
	closedS  = http2.ErrCodeStreamClosed
	size     = http2.ErrCodeFrameSize
	refused  = http2.ErrCodeRefusedStream
	calm     = http2.ErrCodeEnhanceYourCalm
	hpackE   = http2.ErrCodeCompression
)

// want reads an outcome that is not the last.
func (r *raw) want(want outcome) {
	r.t.Helper()
	if got := r.outcome(want); got != want {
		r.t.Errorf("got %q; want %q", got, want)
	}
}

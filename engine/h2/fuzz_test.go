package h2

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"detour/engine/workers"
)

// Whatever frames come: no panic, no handler left behind, an end soon after the
// client's, and nothing said that is not a frame.
func FuzzFrames(f *testing.F) {
	frames := func(do func(r *raw)) []byte {
		var b blockBuffer
		r := &raw{t: f, Framer: http2.NewFramer(&b, nil)}
		r.AllowIllegalWrites = true
		r.WriteSettings()
		do(r)
		return b
	}
	f.Add(frames(func(r *raw) { r.headers(1, get(), true) }))
	f.Add(frames(func(r *raw) {
		r.headers(1, request("POST", "content-length", "3"), false)
		r.WriteData(1, false, []byte("ab"))
		r.WriteDataPadded(1, true, []byte("c"), []byte{0, 0})
		r.WriteRSTStream(1, 8)
		r.WriteWindowUpdate(0, 100)
	}))
	f.Add(frames(func(r *raw) {
		b := get("x-echo", "1", "te", "trailers", "trailer", "a")
		r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:5], PadLength: 3})
		r.WriteContinuation(1, true, b[5:])
		r.WriteData(1, false, []byte("ab"))
		r.headers(1, block("a", "b"), true)
		r.setting(4, 0)
		r.setting(1, 0)
		r.WriteGoAway(0, 0, nil)
	}))
	f.Add(frames(func(r *raw) {
		r.headers(1, request("CONNECT", ":protocol", "websocket"), false)
		r.WritePriority(3, http2.PriorityParam{StreamDep: 1})
		r.WritePing(false, [8]byte{})
		r.headers(3, get("a", "b"), true)
		r.WriteData(1, true, nil)
	}))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(103)
		n, _ := io.Copy(w, r.Body)
		w.Header().Set(http.TrailerPrefix+"A", "b")
		_, _ = w.Write(make([]byte, n*1000))
	})
	f.Fuzz(func(t *testing.T, b []byte) {
		const goAway = "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		tape := &tapeConn{in: strings.NewReader(http2.ClientPreface + string(b) + goAway)}
		conn := New(tape, Options{Handler: handler, Workers: new(workers.Pool), TLS: &tls.ConnectionState{}, Limits: Limits{Streams: 5}})
		conn.in.guard.onePause, conn.in.guard.maxPauses = time.Microsecond, 3
		_ = conn.Serve(context.Background())
		conn.workers.Stop()
		if len(conn.streams) > 0 || conn.handlers > 0 || len(conn.waiting) > 0 || len(conn.turns) > 0 {
			t.Errorf("%q leaves %d streams, %d handlers, %d waiting, %d turns",
				b, len(conn.streams), conn.handlers, len(conn.waiting), len(conn.turns))
		}
		if conn.recvWindow > int64(conn.limits.ConnWindow) {
			t.Errorf("%q makes the window %d", b, conn.recvWindow)
		}
		r := http2.NewFramer(io.Discard, &tape.out)
		r.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			_, err := r.ReadFrame()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%q makes the server say what is wrong: %v", b, err)
			}
		}
	})
}

// tapeConn is a connection with a client that has said everything already, and
// listens a moment longer.
type tapeConn struct {
	net.Conn
	in  *strings.Reader
	out bytes.Buffer
}

func (c *tapeConn) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	if err != nil {
		time.Sleep(100 * time.Microsecond)
	}
	return n, err
}

func (c *tapeConn) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tapeConn) Close() error                     { return nil }
func (c *tapeConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *tapeConn) SetReadDeadline(time.Time) error  { return nil }
func (c *tapeConn) SetWriteDeadline(time.Time) error { return nil }

package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// However an answer's bytes arrive, and however much is read at once, it is the
// same body.
func TestBodyInPieces(t *testing.T) {
	noLeaks(t)
	var chunked strings.Builder
	content := strings.Repeat("0123456789abcdef", 3000)
	for rest := content; rest != ""; {
		n := min(len(rest), 1+rand.IntN(9000))
		fmt.Fprintf(&chunked, "%x;ext\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	answers := map[string]string{
		"length":  fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(content), content),
		"chunked": "HTTP/1.1 200 OK\r\nTrailer: Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked.String() + "0\r\nSum: 42\r\n\r\n",
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
				for {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					for rest := answer; rest != ""; {
						n := min(len(rest), 1+rand.IntN(20000))
						io.WriteString(c, rest[:n])
						rest = rest[n:]
					}
				}
			})
			rt := newClient(t, addr, nil)
			reused := 0
			for _, size := range []int{1, 7, 100, bufferSize / 2, bufferSize, 64 << 10, 1 << 20} {
				reused += idleCount(rt.(*Transport))
				res, err := rt.RoundTrip(request(t, http.MethodGet, addr, nil))
				if err != nil {
					t.Fatal(err)
				}
				var got []byte
				for p := make([]byte, size); err == nil; {
					var n int
					n, err = res.Body.Read(p)
					got = append(got, p[:n]...)
				}
				if err != io.EOF || string(got) != content {
					t.Errorf("read %d bytes at once: %d bytes, %v; want %d, EOF", size, len(got), err, len(content))
				}
				if name == "chunked" && res.Trailer.Get("Sum") != "42" {
					t.Errorf("trailer %v; want Sum: 42", res.Trailer)
				}
			}
			if reused != 6 {
				t.Errorf("the connection was reused %d times; want 6", reused)
			}
		})
	}
}

// scripted is a connection whose peer has said everything already.
type scripted struct {
	net.Conn
	*bytes.Reader
	step int
}

func (s *scripted) Read(p []byte) (int, error)      { return s.Reader.Read(p[:min(len(p), s.step)]) }
func (s *scripted) Write(p []byte) (int, error)     { return len(p), nil }
func (s *scripted) Close() error                    { return nil }
func (s *scripted) SetReadDeadline(time.Time) error { return nil }

// What is accepted, net/http accepts too, and reads the same from it, up to the
// same byte; and it does not depend on how the bytes arrive.
func FuzzRoundTrip(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 404 \r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nab\r\n0\r\nA: 1\r\nB: 2\r\n\r\n",
		"HTTP/1.0 200 OK\r\n\r\nab",
		"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
	} {
		f.Add([]byte(s), uint8(3), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		got, gotErr := replay(t, method, b, int(step)+1)
		if again, err := replay(t, method, b, 1<<20); (err == nil) != (gotErr == nil) || !cmp.Equal(again, got) {
			t.Fatalf("%q: in steps of %d %+v, %v; at once %+v, %v", b, step, got, gotErr, again, err)
		}
		if gotErr != nil {
			return
		}
		want, err := replayNetHTTP(method, b)
		if err != nil {
			t.Fatalf("%q is accepted; net/http says %v", b, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: -net/http +client\n%s", b, diff)
		}
	})
}

type replayed struct {
	Status  int
	Body    string
	Trailer http.Header
}

func replay(t *testing.T, method string, b []byte, step int) (replayed, error) {
	rt := New(Options{Dial: func(context.Context) (net.Conn, error) {
		return &scripted{Reader: bytes.NewReader(b), step: step}, nil
	}})
	res, err := rt.RoundTrip(request(t, method, "a.example", nil))
	if err != nil {
		return replayed{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return replayed{}, err
	}
	return replayed{res.StatusCode, string(body), sent(res.Trailer)}, nil
}

func replayNetHTTP(method string, b []byte) (replayed, error) {
	r := bufio.NewReader(bytes.NewReader(b))
	for {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return replayed{}, err
		}
		if res.StatusCode < 200 {
			continue
		}
		body, err := io.ReadAll(res.Body)
		trailer := sent(res.Trailer)
		for _, name := range []string{"Set-Cookie", "Host", "Te", "Connection", "Upgrade", "Content-Encoding", "Content-Type", "Content-Range",
			"Expect", "Range", "Max-Forwards", "Authorization", "Proxy-Authorization", "Cookie", "Cache-Control", "Keep-Alive", "Proxy-Connection"} {
			delete(trailer, name) // left out
		}
		return replayed{res.StatusCode, string(body), sent(trailer)}, err
	}
}

// sent is trailer without what was announced and never came.
func sent(trailer http.Header) http.Header {
	h := http.Header{}
	for name, values := range trailer {
		if len(values) > 0 {
			h[name] = values
		}
	}
	return h
}

// A reset is no end of a body either when a write of the request's meets it
// first, which leaves the mere end of the connection to the read.
func TestResetWhileUploading(t *testing.T) {
	noLeaks(t)
	for range 20 {
		reset := make(chan bool)
		addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nab")
			<-reset
			c.(*net.TCPConn).SetLinger(0) // the close resets
		})
		rt := newClient(t, addr, nil)
		res, err := rt.RoundTrip(request(t, http.MethodPost, addr, endless{}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 2)); err != nil {
			t.Fatal(err)
		}
		upload := res.Body.(*exchange).body
		eventually(t, "write that is stuck", func() bool {
			since := upload.writing.Load()
			return since != 0 && upload.now()-since > int64(20*time.Millisecond)
		})
		close(reset)
		if rest, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("behind the reset: %q and a clean end; want an error", rest)
		}
		res.Body.Close()
	}
}

func TestUnreadBody(t *testing.T) {
	noLeaks(t)
	var conns atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.URL.Path == "/large" {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nab")
				r.ReadByte()
				return
			}
			io.WriteString(c, okAB)
		}
	})
	rt := newClient(t, addr, nil)
	closeUnread := func(path string) {
		req := request(t, http.MethodGet, addr, nil)
		req.URL.Path = path
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if _, err := res.Body.Read(make([]byte, 1)); err != errBodyClosed {
			t.Errorf("Read after Close = %v; want %v", err, errBodyClosed)
		}
	}
	closeUnread("/") // all of it is here
	closeUnread("/large")
	mustGet(t, rt, addr, "ab")
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections; want 2: one is given up with its unread body", n)
	}
}

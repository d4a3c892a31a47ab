package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

type closeRecorder struct {
	io.Reader
	closed atomic.Bool
}

func (c *closeRecorder) Close() error {
	c.closed.Store(true)
	return nil
}

func TestContinue(t *testing.T) {
	tests := []struct {
		name  string
		serve func(c net.Conn, r *bufio.Reader) // after the head
		limit time.Duration
		sent  bool // the body
	}{
		{"granted", func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, okAB)
		}, 10 * time.Second, true},
		{"not known", func(c net.Conn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, okAB)
		}, 50 * time.Millisecond, true},
		{"refused", func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, okAB)
			r.ReadByte()
		}, 10 * time.Second, false},
		{"wanted behind the head of the answer", func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, "2\r\nab\r\n0\r\n\r\n")
		}, 10 * time.Second, true},
		{"wanted behind the head of the only answer", func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, "2\r\nab\r\n0\r\n\r\n")
		}, 10 * time.Second, true},
		{"refused by a stream", func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 413 Too Large\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")
			r.ReadByte()
		}, 10 * time.Second, false},
		{"not waited for", func(c net.Conn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, okAB)
		}, 0, true},
		{"not waited for any more when the head is sent", func(c net.Conn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, okAB)
		}, time.Nanosecond, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
				c.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := http.ReadRequest(r); err == nil {
					tt.serve(c, r)
				}
			})
			o := defaults()
			o.ContinueTimeout = tt.limit
			var read atomic.Bool
			body := &closeRecorder{Reader: readerFunc(func(p []byte) (int, error) {
				read.Store(true)
				return copy(p, "hello"), io.EOF
			})}
			req := request(t, http.MethodPost, addr, body)
			req.ContentLength = 5
			req.Header.Set("Expect", "100-continue")
			req.Close = strings.Contains(tt.name, "only")
			rt := newClient(t, addr, o).(*Transport)
			if _, got, err := roundTrip(t, rt, req); err != nil || got != "ab" {
				t.Errorf("POST = %q, %v; want ab", got, err)
			}
			if idleCount(rt) > 0 && !tt.sent {
				t.Error("the connection was kept; the upstream may still wait for the body")
			}
			if read.Load() != tt.sent {
				t.Errorf("body read = %v; want %v", read.Load(), tt.sent)
			}
			eventually(t, "close of the body", body.closed.Load)
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// An upstream may answer, and be read, while the request is on its way.
func TestEarlyAnswer(t *testing.T) {
	for _, length := range []int64{-1, 1 << 30} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			noLeaks(t)
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
				if _, err := http.ReadRequest(r); err == nil {
					io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nab")
					c.(*net.TCPConn).SetLinger(0) // what is not read resets the connection
				}
			})
			rt := newClient(t, addr, nil)
			for range 20 {
				pr, pw := io.Pipe()
				req := request(t, http.MethodPost, addr, pr)
				req.ContentLength = length
				res, err := rt.RoundTrip(req) // nothing of the body is there yet
				if err != nil {
					// The reset may overtake the answer, in the kernel.
					if !errors.Is(err, syscall.ECONNRESET) {
						t.Fatal(err)
					}
				} else {
					if res.StatusCode != 413 {
						t.Fatalf("status %d; want 413", res.StatusCode)
					}
					res.Body.Close()
				}
				pw.CloseWithError(io.EOF)
			}
		})
	}
}

// An upstream that refuses an upload and closes is heard although our writes fail.
func TestAnswerDuringUpload(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nab")
		c.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, r)
	})
	rt := newClient(t, addr, nil)
	for range 5 {
		endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
		res, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, endless))
		if err != nil || res.StatusCode != 413 || body != "ab" {
			t.Fatalf("POST = %v, %q, %v; want 413, ab", res, body, err)
		}
	}
}

func TestUpload(t *testing.T) {
	noLeaks(t)
	got := make(chan *http.Request, 1)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			req.Body = io.NopCloser(bytes.NewReader(b))
			got <- req
			io.WriteString(c, okAB)
		}
	})
	rt := newClient(t, addr, nil)
	for _, size := range []int{1, 100, bufferSize - 300, bufferSize, bigPiece - 10, bigPiece, bigPiece + 1, 1 << 20} {
		for _, length := range []int64{-1, int64(size)} {
			for _, step := range []int{1 << 20, 7000} {
				want := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
				req := request(t, http.MethodPost, addr, &stepReader{bytes.NewReader(want), step})
				req.ContentLength = length
				if length < 0 {
					req.Trailer = http.Header{"X-Sum": {"42"}}
				}
				if _, _, err := roundTrip(t, rt, req); err != nil {
					t.Fatalf("%d bytes, length %d: %v", size, length, err)
				}
				r := <-got
				body, _ := io.ReadAll(r.Body)
				if !bytes.Equal(body, want) || r.ContentLength != length {
					t.Errorf("%d bytes, length %d: arrived %d bytes, length %d", size, length, len(body), r.ContentLength)
				}
				if length < 0 && r.Trailer.Get("X-Sum") != "42" {
					t.Errorf("trailers %v; want X-Sum: 42", r.Trailer)
				}
			}
		}
	}
}

// stepReader reads at most step bytes at once.
type stepReader struct {
	io.Reader
	step int
}

func (s *stepReader) Read(p []byte) (int, error) { return s.Reader.Read(p[:min(len(p), s.step)]) }

func TestBrokenUpload(t *testing.T) {
	broken := errors.New("broken")
	tests := []struct {
		name   string
		body   io.Reader
		length int64
		want   string
	}{
		{"fails at once", io.MultiReader(errReader{broken}), 5, "broken"},
		{"fails later", io.MultiReader(strings.NewReader("abc"), errReader{broken}), 5, "broken"},
		{"fails chunked", io.MultiReader(strings.NewReader("abc"), errReader{broken}), -1, "broken"},
		{"too short", strings.NewReader("abc"), 5, "ContentLength=5 with Body length 3"},
		{"too long", strings.NewReader("abcdef"), 5, "ContentLength=5 with Body length 6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
				if req, err := http.ReadRequest(r); err == nil {
					if _, err := io.Copy(io.Discard, req.Body); err == nil {
						t.Error("the upstream read a whole body")
					}
				}
			})
			req := request(t, http.MethodPost, addr, tt.body)
			req.ContentLength = tt.length
			if _, _, err := roundTrip(t, newClient(t, addr, nil), req); err == nil || err.Error() != tt.want {
				t.Errorf("error %v; want %s", err, tt.want)
			}
		})
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

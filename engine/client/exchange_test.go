package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const okAB = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"

// roundTrip sends a request and reads its answer.
func roundTrip(t testing.TB, rt http.RoundTripper, req *http.Request) (*http.Response, string, error) {
	t.Helper()
	res, err := rt.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(res.Body)
	if cerr := res.Body.Close(); cerr != nil {
		t.Errorf("Close() = %v; want nil", cerr)
	}
	return res, string(body), err
}

func request(t testing.TB, method, addr string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+addr+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.GetBody = nil // as a server's request
	return req
}

func mustGet(t testing.TB, rt http.RoundTripper, addr, want string) {
	t.Helper()
	if _, body, err := roundTrip(t, rt, request(t, http.MethodGet, addr, nil)); err != nil || body != want {
		t.Fatalf("GET = %q, %v; want %q", body, err, want)
	}
}

// serveAll answers every request on a connection with answer.
func serveAll(answer string) func(c net.Conn, r *bufio.Reader) {
	return func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			io.WriteString(c, answer)
		}
	}
}

func TestConnectionIsReused(t *testing.T) {
	noLeaks(t)
	var conns atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		serveAll(okAB)(c, r)
	})
	rt := newClient(t, addr, nil)
	for range 10 {
		mustGet(t, rt, addr, "ab")
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, strings.NewReader("x"))); err != nil || body != "ab" {
			t.Fatalf("POST = %q, %v", body, err)
		}
		if res, _, err := roundTrip(t, rt, request(t, http.MethodGet, addr, nil)); err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for requests one after the other; want 1", n)
	}
}

// A connection that the upstream closed is noticed before anything is sent, so
// requests that must not be sent twice do not fail either.
func TestClosedConnectionIsNotUsed(t *testing.T) {
	noLeaks(t)
	closed := make(chan bool)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, okAB)
		c.Close()
		closed <- true
	})
	rt := newClient(t, addr, nil)
	for range 5 {
		body := io.Reader(strings.NewReader("x"))
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, body)); err != nil || body != "ab" {
			t.Fatalf("POST = %q, %v; want ab", body, err)
		}
		<-closed
	}
}

// Bytes that come behind an answer, when it has been read, never become the
// next one.
func TestLateBytesAreNoAnswer(t *testing.T) {
	noLeaks(t)
	more, sent := make(chan bool), make(chan bool)
	var conns atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if conns.Add(1) > 1 {
			serveAll(okAB)(c, r)
			return
		}
		http.ReadRequest(r)
		io.WriteString(c, okAB)
		<-more
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		sent <- true
		r.ReadByte()
	})
	rt := newClient(t, addr, nil)
	mustGet(t, rt, addr, "ab")
	more <- true
	<-sent
	mustGet(t, rt, addr, "ab")
	if n := conns.Load(); n != 2 {
		t.Errorf("%d connections; want 2", n)
	}
}

// dyingUpstream answers the first request of a connection, and ends the second
// with the end of the connection.
func dyingUpstream(t *testing.T, requests *atomic.Int32) string {
	return upstream(t, func(c net.Conn, r *bufio.Reader) {
		for i := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			requests.Add(1)
			if i == 0 {
				io.WriteString(c, okAB)
			}
		}
	})
}

func TestRetry(t *testing.T) {
	tests := []struct {
		method, body string
		retried      bool
	}{
		{"GET", "", true}, {"HEAD", "", true}, {"PUT", "", true}, {"PROPFIND", "", true},
		{"POST", "", false}, {"PATCH", "", false}, {"PUT", "x", false}, {"GET", "x", false},
	}
	for _, tt := range tests {
		t.Run(tt.method+" "+tt.body, func(t *testing.T) {
			noLeaks(t)
			var requests atomic.Int32
			addr := dyingUpstream(t, &requests)
			rt := newClient(t, addr, nil)
			mustGet(t, rt, addr, "ab")
			var body io.Reader
			if tt.body != "" {
				body = strings.NewReader(tt.body)
			}
			_, _, err := roundTrip(t, rt, request(t, tt.method, addr, body))
			want := int32(2)
			if tt.retried {
				want = 3
			}
			if (err == nil) != tt.retried || requests.Load() != want {
				t.Errorf("error %v after %d requests; want retried = %v", err, requests.Load(), tt.retried)
			}
		})
	}
}

func TestNoRetryOnNewConnection(t *testing.T) {
	noLeaks(t)
	var requests atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		requests.Add(1)
	})
	_, _, err := roundTrip(t, newClient(t, addr, nil), request(t, http.MethodGet, addr, nil))
	if !errors.Is(err, errNoAnswer) || requests.Load() != 1 {
		t.Errorf("error %v after %d requests; want %v after 1", err, requests.Load(), errNoAnswer)
	}
}

func TestDialErrorIsReturned(t *testing.T) {
	ln := listen(t)
	ln.Close()
	body := &closeRecorder{Reader: strings.NewReader("x")}
	_, _, err := roundTrip(t, newClient(t, ln.Addr().String(), nil), request(t, http.MethodPost, "a.example", body))
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "dial" {
		t.Errorf("error %v; want that of the dial", err)
	}
	if !body.closed.Load() {
		t.Error("the request's body was not closed")
	}
}

type closeRecorder struct {
	io.Reader
	closed atomic.Bool
}

func (c *closeRecorder) Close() error {
	c.closed.Store(true)
	return nil
}

func TestResponseTimeout(t *testing.T) {
	noLeaks(t)
	const limit = 200 * time.Millisecond
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			switch req.URL.Path {
			case "/slow-body":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
				time.Sleep(3 * limit)
				io.WriteString(c, "b")
			case "/hang":
				io.WriteString(c, "HTTP/1.1 200")
			default:
				time.Sleep(limit / 4)
				io.WriteString(c, okAB)
			}
		}
	})
	o := defaults()
	o.ResponseTimeout = limit
	rt := newClient(t, addr, o)
	to := func(path string) *http.Request {
		req := request(t, http.MethodGet, addr, nil)
		req.URL.Path = path
		return req
	}
	for range 2 {
		for range 6 { // deadlines set for one of these pass during another
			if _, body, err := roundTrip(t, rt, to("/")); err != nil || body != "ab" {
				t.Fatalf("GET = %q, %v; want ab", body, err)
			}
		}
		if _, body, err := roundTrip(t, rt, to("/slow-body")); err != nil || body != "ab" {
			t.Fatalf("a slow body = %q, %v; want no limit on it", body, err)
		}
		start := time.Now()
		_, _, err := roundTrip(t, rt, to("/hang"))
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("error %v; want a timeout", err)
		}
		if took := time.Since(start); took < limit {
			t.Errorf("timeout after %v; want %v", took, limit)
		}
	}
}

// The time for the answer begins when the request was sent.
func TestResponseTimeoutAfterUpload(t *testing.T) {
	noLeaks(t)
	const limit = 200 * time.Millisecond
	hang := make(chan bool)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			io.Copy(io.Discard, req.Body)
			if req.URL.Path == "/hang" {
				<-hang
				return
			}
			io.WriteString(c, okAB)
		}
	})
	o := defaults()
	o.ResponseTimeout = limit
	rt := newClient(t, addr, o)
	slowly := func() io.Reader {
		pr, pw := io.Pipe()
		go func() {
			for range 5 {
				time.Sleep(limit / 2)
				io.WriteString(pw, "x")
			}
			pw.Close()
		}()
		return pr
	}
	if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, slowly())); err != nil || body != "ab" {
		t.Fatalf("POST = %q, %v; want ab", body, err)
	}
	req := request(t, http.MethodPost, addr, slowly())
	req.URL.Path = "/hang"
	_, _, err := roundTrip(t, rt, req)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v; want a timeout", err)
	}
	close(hang)
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
		{"not waited for", func(c net.Conn, r *bufio.Reader) {
			io.CopyN(io.Discard, r, 5)
			io.WriteString(c, okAB)
		}, 0, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
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

func TestCancel(t *testing.T) {
	stages := map[string]func(c net.Conn, r *bufio.Reader){
		"before the answer": func(c net.Conn, r *bufio.Reader) {},
		"in the head":       func(c net.Conn, r *bufio.Reader) { io.WriteString(c, "HTTP/1.1 200 OK\r\nX") },
		"in the body":       func(c net.Conn, r *bufio.Reader) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab") },
		"in chunks": func(c net.Conn, r *bufio.Reader) {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
		},
	}
	for name, serve := range stages {
		for _, body := range []string{"", "x"} {
			t.Run(name+" "+body, func(t *testing.T) {
				noLeaks(t)
				there := make(chan bool, 1)
				addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					serve(c, r)
					there <- true
					io.Copy(io.Discard, r)
				})
				cause := errors.New("enough")
				ctx, cancel := context.WithCancelCause(context.Background())
				go func() {
					<-there
					cancel(cause)
				}()
				var rd io.Reader
				if body != "" {
					pr, pw := io.Pipe() // which never ends by itself
					defer pw.Close()
					rd = pr
				}
				if _, _, err := roundTrip(t, newClient(t, addr, nil), request(t, http.MethodPost, addr, rd).WithContext(ctx)); !errors.Is(err, cause) {
					t.Errorf("error %v; want the cause of the cancellation", err)
				}
			})
		}
	}
}

func TestResetInBody(t *testing.T) {
	noLeaks(t)
	read := make(chan bool)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err == nil {
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nab") // lasts until the end
			<-read
			c.(*net.TCPConn).SetLinger(0)
		}
	})
	res, err := newClient(t, addr, nil).RoundTrip(request(t, http.MethodGet, addr, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.ReadFull(res.Body, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	read <- true
	if _, err := io.ReadAll(res.Body); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("error %v; want %v", err, syscall.ECONNRESET)
	}
}

// Close ends a Read on its way, of another goroutine.
func TestCloseWhileReading(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
		r.ReadByte()
	})
	for range 20 {
		res, err := newClient(t, addr, nil).RoundTrip(request(t, http.MethodGet, addr, nil))
		if err != nil {
			t.Fatal(err)
		}
		started, done := make(chan bool), make(chan error)
		go func() {
			close(started)
			_, err := io.ReadAll(res.Body)
			done <- err
		}()
		<-started
		res.Body.Close()
		if err := <-done; err == nil {
			t.Error("the Read ended cleanly; want an error")
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

func TestUpgrade(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+req.Header.Get("Upgrade")+"\r\n\r\nhello ")
		said, _ := io.ReadAll(r) // until the half-close
		c.Write(said)
	})
	o := defaults()
	o.ResponseTimeout = 50 * time.Millisecond
	req := request(t, http.MethodGet, addr, nil)
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "x")
	ctx, cancel := context.WithCancel(context.Background())
	res, err := newClient(t, addr, o).RoundTrip(req.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	cancel() // the connection is the caller's now
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "x" {
		t.Fatalf("answer %v", res)
	}
	stream, ok := res.Body.(interface {
		io.ReadWriteCloser
		CloseWrite() error
	})
	if !ok {
		t.Fatalf("Body is a %T; want one to write to and half-close", res.Body)
	}
	defer stream.Close()
	time.Sleep(2 * o.ResponseTimeout) // which is over with the head
	io.WriteString(stream, "world")
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(stream); err != nil || string(b) != "hello world" {
		t.Errorf("read %q, %v; want hello world", b, err)
	}
}

func TestIdleConnections(t *testing.T) {
	noLeaks(t)
	var open atomic.Int32
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		open.Add(1)
		defer open.Add(-1)
		serveAll(okAB)(c, r)
	})
	o := defaults()
	o.MaxIdle, o.IdleTimeout = 3, time.Second
	rt := newClient(t, addr, o).(*Transport)
	useTogether := func(n int) {
		var bodies []io.Closer
		for range n {
			res, err := rt.RoundTrip(request(t, http.MethodGet, addr, nil))
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, res.Body)
		}
		for _, b := range bodies {
			b.Close()
		}
	}
	useTogether(5)
	eventually(t, "close of what is over MaxIdle", func() bool { return open.Load() == 3 })
	eventually(t, "close of what is over IdleTimeout", func() bool { return open.Load() == 0 })
	useTogether(2)
	rt.CloseIdleConnections()
	eventually(t, "close of the idle", func() bool { return open.Load() == 0 })

	res, err := rt.RoundTrip(request(t, http.MethodGet, addr, nil))
	if err != nil {
		t.Fatal(err)
	}
	rt.CloseIdleConnections()
	res.Body.Close()
	eventually(t, "close of one in use then", func() bool { return open.Load() == 0 })
	mustGet(t, rt, addr, "ab") // still serves
}

// What the upstream closed does not lie about until it is wanted.
func TestSweepClosesDeadConnections(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, okAB)
	})
	o := defaults()
	o.IdleTimeout = 4 * time.Second // looked at after one
	rt := newClient(t, addr, o).(*Transport)
	mustGet(t, rt, addr, "ab")
	if n := idleCount(rt); n != 1 {
		t.Fatalf("%d idle connections; want 1", n)
	}
	start := time.Now()
	eventually(t, "close of the dead", func() bool { return idleCount(rt) == 0 })
	if took := time.Since(start); took >= o.IdleTimeout*3/4 {
		t.Errorf("closed after %v, because of its age", took)
	}
}

// A connection that cannot be asked whether it is sound is used once.
func TestOpaqueConnection(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, serveAll(okAB))
	o := defaults()
	var dials int
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		dials++
		c, err := dialer(addr)(ctx)
		return struct{ net.Conn }{c}, err
	}
	rt := newClient(t, addr, o)
	for range 3 {
		mustGet(t, rt, addr, "ab")
		if _, body, err := roundTrip(t, rt, request(t, http.MethodPost, addr, strings.NewReader("x"))); err != nil || body != "ab" {
			t.Fatalf("POST = %q, %v", body, err)
		}
	}
	if dials != 6 {
		t.Errorf("%d connections for 6 requests; want one each", dials)
	}
}

func TestTrace(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"+okAB)
		r.ReadByte()
	})
	var got []string
	trace := &httptrace.ClientTrace{
		GotConn:              func(i httptrace.GotConnInfo) { got = append(got, fmt.Sprint("conn ", i.Reused)) },
		GotFirstResponseByte: func() { got = append(got, "byte") },
		Got100Continue:       func() { got = append(got, "continue") },
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			got = append(got, fmt.Sprint(code, h["Link"]))
			return nil
		},
	}
	req := request(t, http.MethodGet, addr, nil)
	if _, _, err := roundTrip(t, newClient(t, addr, nil), req.WithContext(httptrace.WithClientTrace(req.Context(), trace))); err != nil {
		t.Fatal(err)
	}
	if want := []string{"conn false", "byte", "continue", "100 []", "103 [</a>]"}; !slices.Equal(got, want) {
		t.Errorf("trace = %q; want %q", got, want)
	}
}

func idleCount(t *Transport) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// A connection that cannot be written to fails at once, whatever the reason.
func TestWriteError(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) { r.ReadByte() })
	broken := errors.New("no route")
	o := defaults()
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := dialer(addr)(ctx)
		if err != nil {
			return nil, err
		}
		return &unwritable{c.(*net.TCPConn), broken}, nil
	}
	rt := newClient(t, addr, o)
	for _, body := range []io.Reader{nil, strings.NewReader("x")} {
		if _, _, err := roundTrip(t, rt, request(t, http.MethodPost, addr, body)); !errors.Is(err, broken) {
			t.Errorf("error %v; want %v", err, broken)
		}
	}
}

type unwritable struct {
	*net.TCPConn
	err error
}

func (u *unwritable) Write([]byte) (int, error) { return 0, u.err }

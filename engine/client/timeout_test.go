package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestResponseTimeout(t *testing.T) {
	noLeaks(t)
	const limit = 400 * time.Millisecond
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			switch req.URL.Path {
			case "/slow-body":
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
				time.Sleep(2 * limit)
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
	const limit = 400 * time.Millisecond
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

// An upstream that takes nothing of a body has as long for that as for its
// answer: who sent it may be gone, and nobody would notice.
func TestResponseTimeoutOfStuckUpload(t *testing.T) {
	noLeaks(t)
	const limit = 400 * time.Millisecond
	hang := make(chan bool)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		<-hang
	})
	defer close(hang)
	o := defaults()
	o.ResponseTimeout = limit
	rt := newClient(t, addr, o)
	for _, length := range []int64{-1, 1 << 30} {
		req := request(t, http.MethodPost, addr, endless{})
		req.ContentLength = length
		start := time.Now()
		_, _, err := roundTrip(t, rt, req)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("length %d: error %v; want a timeout", length, err)
		}
		if took := time.Since(start); took < limit {
			t.Errorf("length %d: timeout after %v; want %v", length, took, limit)
		}
	}
}

// So does a head that the upstream does not take: that of a request with large
// cookies does not fit into a small socket's buffer.
func TestResponseTimeoutOfStuckHead(t *testing.T) {
	noLeaks(t)
	done := make(chan struct{})
	addr := upstream(t, func(net.Conn, *bufio.Reader) { <-done })
	t.Cleanup(func() { close(done) })
	for _, kind := range []string{"without a body", "with a body", "expecting 100"} {
		t.Run(kind, func(t *testing.T) {
			o := defaults()
			o.ResponseTimeout = 200 * time.Millisecond
			req := request(t, http.MethodGet, addr, nil)
			if kind != "without a body" {
				req = request(t, http.MethodPost, addr, strings.NewReader("x"))
			}
			if kind == "expecting 100" {
				req.Header.Set("Expect", "100-continue")
			}
			req.Header.Set("Cookie", strings.Repeat("x", 16<<20))
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if _, _, err := roundTrip(t, newClient(t, addr, o), req.WithContext(ctx)); !isTimeout(err) || ctx.Err() != nil {
				t.Errorf("error %v, context %v; want a timeout of the response", err, ctx.Err())
			}
		})
	}
}

// A head that is taken leaves no deadline to what follows it on the connection.
func TestLargeHeadLeavesNoDeadline(t *testing.T) {
	noLeaks(t)
	const limit = time.Second / 2
	addr := upstream(t, serveAll(okAB))
	o := defaults()
	o.ResponseTimeout = limit
	rt := newClient(t, addr, o)
	for _, body := range []string{"", "x"} {
		for i, cookie := range []int{2 * bufferSize, 1} {
			if i > 0 {
				time.Sleep(limit) // what is tested is that time passes
			}
			req := request(t, http.MethodPost, addr, nil) // which is not sent once more
			if body != "" {
				req = request(t, http.MethodPost, addr, strings.NewReader(body))
			}
			req.Header.Set("Cookie", strings.Repeat("x", cookie))
			if _, got, err := roundTrip(t, rt, req); err != nil || got != "ab" {
				t.Fatalf("POST of %q with %d bytes of cookies = %q, %v; want ab", body, cookie, got, err)
			}
		}
	}
}

// Nor may it take nothing for ever because it has begun to answer.
func TestUploadStuckBehindHead(t *testing.T) {
	noLeaks(t)
	const limit = 400 * time.Millisecond
	hang := make(chan bool)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		if req.URL.Path == "/trailers" {
			io.WriteString(c, "0\r\n")
		}
		<-hang
	})
	defer close(hang)
	o := defaults()
	o.ResponseTimeout = limit
	rt := newClient(t, addr, o)
	for _, path := range []string{"/data", "/trailers"} {
		t.Run(path, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*limit)
			defer cancel()
			req := request(t, http.MethodPost, addr, endless{}).WithContext(ctx)
			req.URL.Path = path
			start := time.Now()
			res, _, err := roundTrip(t, rt, req)
			var timeout net.Error
			if res == nil || !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil {
				t.Errorf("answer %v, error %v; want a head, then a timeout", res, err)
			}
			if took := time.Since(start); took < limit {
				t.Errorf("timeout after %v; want %v", took, limit)
			}
		})
	}
}

// That limit is for nothing else: neither for an answer that comes slowly, nor
// for a body whose sender is slow, nor for an upstream that takes no more
// until somebody reads its answer.
func TestSlowAnswerDuringUpload(t *testing.T) {
	noLeaks(t)
	const limit = 500 * time.Millisecond
	const pauses = 2
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
		defer io.WriteString(c, "0\r\n\r\n")
		if req.URL.Path == "/echo" {
			piece := make([]byte, 4096)
			for {
				n, err := req.Body.Read(piece)
				fmt.Fprintf(c, "%x\r\n%s\r\n", n, piece[:n])
				if err != nil || n == 0 {
					return
				}
			}
		}
		if req.URL.Path == "/taken" {
			io.Copy(io.Discard, req.Body)
		}
		for range pauses {
			time.Sleep(2 * limit)
			io.WriteString(c, "1\r\nx\r\n")
		}
		io.Copy(io.Discard, req.Body)
	})
	o := defaults()
	o.ResponseTimeout = limit
	rt := newClient(t, addr, o)
	post := func(t *testing.T, path string, body io.Reader) *http.Response {
		req := request(t, http.MethodPost, addr, body)
		req.URL.Path = path
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	t.Run("all was sent", func(t *testing.T) {
		t.Parallel()
		if b, err := io.ReadAll(post(t, "/taken", strings.NewReader("x")).Body); err != nil || string(b) != "xx" {
			t.Errorf("body %q, %v; want xx", b, err)
		}
	})
	t.Run("the sender is slow", func(t *testing.T) {
		t.Parallel()
		pr, pw := io.Pipe()
		res := post(t, "/", pr)
		got := make([]byte, pauses)
		if n, err := io.ReadFull(res.Body, got); err != nil {
			t.Errorf("%d bytes, %v; want %d", n, err, pauses)
		}
		pw.Close()
		if b, err := io.ReadAll(res.Body); err != nil || len(b) > 0 {
			t.Errorf("the rest: %q, %v; want none", b, err)
		}
	})
	t.Run("the reader is slow", func(t *testing.T) {
		t.Parallel()
		const size = 32 << 20 // more than sockets hold
		res := post(t, "/echo", io.LimitReader(endless{}, size))
		time.Sleep(4 * limit) // is not waited for, but passes
		if n, err := io.Copy(io.Discard, res.Body); err != nil || n != size {
			t.Errorf("%d bytes, %v; want %d", n, err, size)
		}
	})
}

// endless is a body without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

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

// ResponseTimeout ends with the response head: trailers may come later.
func TestTrailersMayTakeTheirTime(t *testing.T) {
	const limit = 400 * time.Millisecond
	rest := make(chan struct{})
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
		<-rest
		io.WriteString(c, "X-Sum: 1\r\n\r\n")
	})
	for _, kind := range transports {
		t.Run(kind.name, func(t *testing.T) {
			o := defaults()
			o.ResponseTimeout = limit
			req, err := http.NewRequest("GET", "http://upstream.test/", nil)
			if err != nil {
				t.Fatal(err)
			}
			res, err := kind.make(t, addr, o).RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			time.AfterFunc(2*limit, func() { rest <- struct{}{} }) // the limit has to pass while the trailer is read
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != "hello" || res.Trailer.Get("X-Sum") != "1" {
				t.Errorf("body = %q, %v, trailer %v; want hello and its trailer", body, err, res.Trailer)
			}
		})
	}
}

package client

import (
	"bufio"
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
	o.ResponseTimeout = 500 * time.Millisecond
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

// A storm of 1xx ends at HeadLimit, or where the hook that sees them says so.
func TestInterimStorm(t *testing.T) {
	noLeaks(t)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		for storm := []byte(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 500)); ; {
			if _, err := c.Write(storm); err != nil {
				return
			}
		}
	})
	const most = 1000
	errEnough := errors.New("enough")
	for _, kind := range transports {
		t.Run(kind.name, func(t *testing.T) {
			o := defaults()
			o.HeadLimit = 16 << 10
			rt := kind.make(t, addr, o)
			if _, _, err := roundTrip(t, rt, request(t, http.MethodGet, addr, nil)); err == nil {
				t.Error("nobody looks at them: no error; want one, as they are too long")
			}
			seen := 0
			trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
				if seen++; seen > most {
					return errEnough
				}
				return nil
			}}
			req := request(t, http.MethodGet, addr, nil)
			if _, _, err := roundTrip(t, rt, req.WithContext(httptrace.WithClientTrace(req.Context(), trace))); !errors.Is(err, errEnough) || seen != most+1 {
				t.Errorf("a hook looks at them: error %v after %d; want its own after %d", err, seen, most+1)
			}
		})
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
		{"GET", "", true}, {"HEAD", "", true}, {"OPTIONS", "", true}, {"TRACE", "", true}, {"PUT", "", true}, {"DELETE", "", true},
		{"PROPFIND", "", true}, {"REPORT", "", true}, {"SEARCH", "", true},
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

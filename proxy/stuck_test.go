package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// An upstream that hangs takes nothing of a body, and so a client of HTTP/1 that
// gives up is not noticed. It must end all the same.
func TestStuckUpload(t *testing.T) {
	for _, kind := range stuckKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			hang := make(chan struct{})
			t.Cleanup(func() { close(hang) })
			r := newRig(t, nil, startUpstreamOf(t, kind, 300*time.Millisecond, func(http.ResponseWriter, *http.Request) { <-hang }))
			conn := r.dial(t, "http/1.1")
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 1000000000\r\n\r\n")
			go io.Copy(conn, new(zeros))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusGatewayTimeout {
				t.Fatalf("answer %v, %v; want 504", res, err)
			}
			conn.Close()
			eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
			if got := r.accessLog(t, 1)[0]["status"]; got != 504.0 {
				t.Errorf("logged status %v; want 504", got)
			}
			if message, _ := r.route.Stats.LastError(); !strings.Contains(message, "timeout") {
				t.Errorf("last error %q; want a timeout", message)
			}
			for _, protocol := range []string{"h2", "h3"} {
				req := newRequest(t, http.MethodPost, "https://"+host+"/", io.LimitReader(new(zeros), 1e9))
				if res, err := r.client(t, protocol).Do(req); err != nil || res.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%s: answer %v, %v; want 504", protocol, res, err)
				}
			}
		})
	}
}

// An upstream that has taken all and does not answer is not said to have taken
// nothing.
func TestSilenceAfterUpload(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		hang := make(chan struct{})
		up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-hang
		}))
		up.Config.Protocols = new(http.Protocols)
		up.Config.Protocols.SetHTTP1(true)
		up.Config.Protocols.SetUnencryptedHTTP2(true)
		up.Start()
		t.Cleanup(func() {
			close(hang)
			up.Close()
		})
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{
			Scheme: scheme, Address: up.Listener.Addr().String(), ResponseTimeout: 500 * time.Millisecond,
		}})
		req := newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("hello"))
		if res, err := r.client(t, "h2").Do(req); err != nil || res.StatusCode != http.StatusGatewayTimeout {
			t.Fatalf("%s: answer %v, %v; want 504", scheme, res, err)
		}
		if message, _ := r.route.Stats.LastError(); strings.Contains(message, "took nothing") {
			t.Errorf("%s: last error %q; want that of the missing answer", scheme, message)
		}
	}
}

// stuckKinds are the upstreams of these tests.
var stuckKinds = []string{"http", "https", "h2c", "https, HTTP/2"}

// startUpstreamOf serves h as an upstream of that kind, and returns what a rig
// needs to have it as one.
func startUpstreamOf(t *testing.T, kind string, limit time.Duration, h http.HandlerFunc) rigOptions {
	t.Helper()
	cert, _ := testCertificate()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}}, Handler: h}
	srv.Protocols.SetHTTP1(kind == "http" || kind == "https")
	srv.Protocols.SetUnencryptedHTTP2(kind == "h2c")
	srv.Protocols.SetHTTP2(kind == "https, HTTP/2")
	scheme, _, _ := strings.Cut(kind, ",")
	if scheme == "https" {
		go srv.ServeTLS(ln, "", "")
	} else {
		go srv.Serve(ln)
	}
	t.Cleanup(func() { srv.Close() })
	return rigOptions{upstream: UpstreamOptions{Scheme: scheme, Address: ln.Addr().String(), Insecure: true, ResponseTimeout: limit}}
}

// An upload that nobody takes does not hold up the others' forms.
func TestStuckUploadIsAlone(t *testing.T) {
	for _, kind := range stuckKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			hang := make(chan struct{})
			t.Cleanup(func() { close(hang) })
			r := newRig(t, nil, startUpstreamOf(t, kind, time.Minute, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/stuck" {
					<-hang
				}
				io.Copy(w, r.Body)
			}))
			c, other := r.client(t, "h2"), r.client(t, "h2")
			get(t, other, "https://"+host+"/") // there is a connection to the upstream now
			ctx, stop := context.WithCancel(t.Context())
			var sending sync.WaitGroup
			defer sending.Wait()
			defer stop()
			var body zeros
			stuck, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/stuck", &body)
			if err != nil {
				t.Fatal(err)
			}
			sending.Go(func() {
				if res, err := c.Do(stuck); err == nil {
					res.Body.Close()
				}
			})
			eventually(t, "full window", func() bool { return body.taken.Load() > 1<<20 })
			for range 10 { // until the window is full for sure, and then
				res, got := do(t, other, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("form")))
				if res.StatusCode != 200 || got != "form" {
					t.Fatalf("= %d %q; want the form back", res.StatusCode, got)
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}

// Nor is a client of HTTP/1 noticed that leaves when the answer has begun, and
// then nothing moves any more.
func TestUploadStuckBehindHead(t *testing.T) {
	for _, kind := range stuckKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, startUpstreamOf(t, kind, 300*time.Millisecond, func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				rc.EnableFullDuplex()
				rc.Flush()
				<-r.Context().Done()
			}))
			conn := r.dial(t, "http/1.1")
			conn.SetDeadline(time.Now().Add(20 * time.Second))
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 1000000000\r\n\r\n")
			go io.Copy(conn, new(zeros))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Fatalf("answer %v, %v; want 200", res, err)
			}
			if body, err := io.ReadAll(res.Body); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("behind the head: %q, %v; want it broken off", body, err)
			}
		})
	}
}

// But an answer that moves is what was asked for, whoever takes the rest of the
// request.
func TestAnswerOutlivesStuckUpload(t *testing.T) {
	const pieces, limit = 25, 500 * time.Millisecond
	for _, kind := range stuckKinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil, startUpstreamOf(t, kind, limit, func(w http.ResponseWriter, r *http.Request) {
				rc := http.NewResponseController(w)
				rc.EnableFullDuplex()
				for range pieces {
					io.WriteString(w, "x")
					rc.Flush()
					time.Sleep(limit / 10)
				}
			}))
			req := newRequest(t, http.MethodPost, "https://"+host+"/", io.LimitReader(new(zeros), 1e9))
			res, err := r.client(t, "h2").Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); err != nil || len(body) != pieces {
				t.Errorf("body %q, %v; want all of it", body, err)
			}
		})
	}
}

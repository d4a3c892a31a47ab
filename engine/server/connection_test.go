package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"detour/engine/server"
)

// A client that leaves ends the context of its request, whatever the request
// carried, and however late somebody asks.
func TestNoticesThatTheClientLeft(t *testing.T) {
	noLeak(t)
	requests := map[string]string{
		"get":     get,
		"post":    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
		"chunked": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	}
	waits := map[string]func(ctx context.Context){
		"done":  func(ctx context.Context) { <-ctx.Done() },
		"late":  func(ctx context.Context) { time.Sleep(20 * time.Millisecond); <-ctx.Done() },
		"child": func(ctx context.Context) { c, cancel := context.WithCancel(ctx); defer cancel(); <-c.Done() },
		"value": func(ctx context.Context) { <-context.WithValue(ctx, "k", "v").Done() },
		"err": func(ctx context.Context) {
			for ctx.Err() == nil {
				time.Sleep(time.Millisecond)
			}
		},
		"after": func(ctx context.Context) {
			c := make(chan struct{})
			context.AfterFunc(ctx, func() { close(c) })
			<-c
		},
	}
	for kind, in := range requests {
		for how, wait := range waits {
			t.Run(kind+"/"+how, func(t *testing.T) {
				t.Parallel()
				arrived, left := make(chan struct{}), make(chan error, 1)
				s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					close(arrived)
					wait(r.Context())
					left <- r.Context().Err()
				}), secure)
				c := s.dialTLS(t)
				io.WriteString(c, in)
				<-arrived
				c.NetConn().Close()
				select {
				case err := <-left:
					if !errors.Is(err, context.Canceled) {
						t.Errorf("Err = %v; want %v", err, context.Canceled)
					}
				case <-time.After(10 * time.Second):
					t.Error("the request's context lives on")
				}
			})
		}
	}
}

// The next request is not a departure, and is not lost, however slow the handler.
func TestPipeliningWhileWatching(t *testing.T) {
	noLeak(t)
	var mu sync.Mutex
	var seen []string
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		select {
		case <-ctx.Done():
			t.Error("the context ended")
		case <-time.After(20 * time.Millisecond): // the watch has begun
		}
		mu.Lock()
		seen = append(seen, r.URL.Path)
		mu.Unlock()
		fmt.Fprint(w, r.URL.Path)
	}), secure)
	c := s.dialTLS(t)
	br := bufio.NewReader(c)
	for i := range 10 {
		switch i % 3 {
		case 0: // both at once
			fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\nGET /%db HTTP/1.1\r\nHost: a\r\n\r\n", i, i)
		case 1: // the second while the first is served
			fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			time.Sleep(12 * time.Millisecond)
			fmt.Fprintf(c, "GET /%db HTTP/1.1\r\nHost: a\r\n\r\n", i)
		case 2: // one after the other
			fmt.Fprintf(c, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			if _, got := answer(t, br, "GET"); got != fmt.Sprintf("/%d", i) {
				t.Errorf("answer %q; want /%d", got, i)
			}
			fmt.Fprintf(c, "GET /%db HTTP/1.1\r\nHost: a\r\n\r\n", i)
			if _, got := answer(t, br, "GET"); got != fmt.Sprintf("/%db", i) {
				t.Errorf("answer %q; want /%db", got, i)
			}
			continue
		}
		for _, want := range []string{fmt.Sprintf("/%d", i), fmt.Sprintf("/%db", i)} {
			if _, got := answer(t, br, "GET"); got != want {
				t.Errorf("answer %q; want %q", got, want)
			}
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(seen) != 20 {
		t.Errorf("served %q; want 20 requests", seen)
	}
}

func TestContextEndsWithTheRequest(t *testing.T) {
	kept := make(chan context.Context, 2)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kept <- r.Context()
		if r.URL.Path == "/asked" && r.Context().Err() != nil {
			t.Error("the context ended before the request")
		}
	}), nil)
	c := s.dial(t)
	br := bufio.NewReader(c)
	for _, path := range []string{"/asked", "/unasked"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
		answer(t, br, "GET")
		ctx := <-kept
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: the context did not end", path)
		}
		if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), context.Canceled) {
			t.Errorf("%s: Err = %v; want %v", path, ctx.Err(), context.Canceled)
		}
	}
}

// Children of a request's context, even below one of another kind, cost no
// goroutine.
func TestContextNeedsNoGoroutines(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		type wrapped struct{ context.Context }
		before := numGoroutine()
		for range 10 {
			_, cancel := context.WithCancel(wrapped{r.Context()})
			defer cancel()
		}
		if n := numGoroutine() - before; n > 2 { // the watch may begin
			t.Errorf("%d goroutines for 10 contexts", n)
		}
	}), nil)
	c := s.dial(t)
	io.WriteString(c, get)
	answer(t, bufio.NewReader(c), "GET")
}

func TestHijack(t *testing.T) {
	noLeak(t)
	for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
		for _, early := range []string{"", "e", "early bird"} {
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				r.Context().Done()
				time.Sleep(wait)
				conn, buffered, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				io.Copy(conn, buffered)
				if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
					t.Error("the hijacked connection cannot be half-closed")
				}
			}), secure)
			c := s.dialTLS(t)
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n"+early)
			head := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
			if _, err := io.ReadFull(c, head); err != nil {
				t.Fatal(err)
			}
			if err := s.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown with a hijacked connection = %v", err)
			}
			io.WriteString(c, " and late\x00\n")
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if want := early + " and late\x00\n"; string(got) != want || err != nil {
				t.Errorf("after %v: echo %q, %v; want %q", wait, got, err, want)
			}
		}
	}
}

func TestCutsSlowAndIdleClients(t *testing.T) {
	noLeak(t)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			r.Context().Done()
			time.Sleep(600 * time.Millisecond) // longer than any limit
		}
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	}), func(o *server.Options) {
		o.Limits.HeaderTimeout, o.Limits.IdleTimeout = 300*time.Millisecond, 300*time.Millisecond
	})
	t.Run("dripping head", func(t *testing.T) {
		for _, before := range []string{"", get} {
			c := s.dial(t)
			br := bufio.NewReader(c)
			io.WriteString(c, before)
			if before != "" {
				answer(t, br, "GET")
			}
			stop := make(chan struct{})
			var drips sync.WaitGroup
			drips.Go(func() {
				io.WriteString(c, "GET / HTTP/1.1\r\nX: ")
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
						if _, err := io.WriteString(c, "x"); err != nil {
							return
						}
					}
				}
			})
			if got, err := io.ReadAll(br); len(got) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a head that drips got %q, %v; want the end", got, err)
			}
			close(stop)
			drips.Wait()
		}
	})
	t.Run("pipelined part of a head", func(t *testing.T) {
		for _, body := range []string{"\r\n", "Content-Length: 3\r\n\r\nabc"} {
			c := s.dial(t)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+body+"GET / HTT")
			br := bufio.NewReader(c)
			answer(t, br, "POST")
			start := time.Now()
			if got, err := io.ReadAll(br); len(got) > 0 || err != nil || time.Since(start) > 5*time.Second {
				t.Errorf("half a head got %q, %v after %v; want the end", got, err, time.Since(start))
			}
		}
	})
	t.Run("idle", func(t *testing.T) {
		for _, path := range []string{"", "/", "/slow"} {
			c := s.dial(t)
			br := bufio.NewReader(c)
			if path != "" {
				fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path)
				if _, got := answer(t, br, "GET"); got != "<nil>" {
					t.Errorf("%s: answer %q", path, got)
				}
			}
			start := time.Now()
			if got, err := io.ReadAll(br); len(got) > 0 || err != nil || time.Since(start) > 5*time.Second {
				t.Errorf("%s: an idle connection got %q, %v after %v; want the end", path, got, err, time.Since(start))
			}
		}
	})
	t.Run("slow body", func(t *testing.T) { // is none of the server's business
		c := s.dial(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
		for _, b := range "abc" {
			time.Sleep(250 * time.Millisecond)
			io.WriteString(c, string(b))
		}
		if _, got := answer(t, bufio.NewReader(c), "POST"); got != "abc<nil>" {
			t.Errorf("answer %q; want abc", got)
		}
	})
}

func TestHandlerDeadlines(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		switch r.URL.Path {
		case "/read":
			rc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			fmt.Fprint(w, errors.Is(err, os.ErrDeadlineExceeded), r.Context().Err() != nil)
		case "/again":
			rc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := io.ReadAll(r.Body)
			rc.SetReadDeadline(time.Time{})
			b, err2 := io.ReadAll(r.Body)
			fmt.Fprint(w, err != nil, string(b), err2)
		case "/body":
			b, err := io.ReadAll(r.Body)
			fmt.Fprint(w, string(b), err)
		case "/cut": // as a gateway ends a request from outside
			ctx := r.Context()
			time.AfterFunc(20*time.Millisecond, func() { rc.SetReadDeadline(time.Unix(1, 0)) })
			<-ctx.Done()
			fmt.Fprint(w, "cut")
		case "/write":
			rc.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			var err error
			for err == nil {
				_, err = w.Write(make([]byte, 1<<20))
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("Write = %v; want %v", err, os.ErrDeadlineExceeded)
			}
			if r.Context().Err() == nil {
				t.Error("the context lives on after a failed write")
			}
		case "/far": // stands for the request alone
			rc.SetWriteDeadline(time.Now().Add(time.Minute))
			rc.SetWriteDeadline(time.Now().Add(time.Minute + 10*time.Millisecond))
		case "/past":
			w.WriteHeader(200)
			rc.Flush()
			rc.SetWriteDeadline(time.Unix(1, 0))
			if rc.SetWriteDeadline(time.Time{}) != nil {
				t.Error("the deadline cannot be lifted")
			}
		}
	}), secure)
	c := s.dialTLS(t)
	br := bufio.NewReader(c)
	ask := func(path, body, want string) {
		t.Helper()
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\n%s", path, body)
		if _, got := answer(t, br, "POST"); got != want {
			t.Errorf("%s: answer %q; want %q", path, got, want)
		}
	}
	ask("/far", "\r\n", "")
	ask("/far", "\r\n", "")
	ask("/past", "\r\n", "")
	ask("/cut", "\r\n", "cut")
	ask("/cut", "\r\n", "cut") // and the connection lives on
	go func() {
		time.Sleep(60 * time.Millisecond)
		io.WriteString(c, "abc")
	}()
	ask("/again", "Content-Length: 3\r\n\r\n", "trueabc<nil>")
	// The deadline of one request is not that of the next, behind it.
	go func() {
		time.Sleep(50 * time.Millisecond)
		io.WriteString(c, "cd")
	}()
	ask("/cut", "\r\nPOST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab", "cut")
	if _, got := answer(t, br, "POST"); got != "abcd<nil>" {
		t.Errorf("answer %q to the request behind; want abcd", got)
	}
	ask("/read", "Content-Length: 3\r\n\r\n", "true true")

	c = s.dialTLS(t)
	io.WriteString(c, "GET /write HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(200 * time.Millisecond)
	if _, err := io.Copy(io.Discard, c); err == nil {
		t.Error("an answer that was cut looks complete")
	}
}

func TestPanics(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Context().Done()
		if r.URL.Path == "/flushed" {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
		time.Sleep(10 * time.Millisecond)
		if r.URL.Query().Has("abort") {
			panic(http.ErrAbortHandler)
		}
		panic("a bug")
	}), secure)
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
		for _, path := range []string{"/", "/flushed", "/?abort", "/flushed?abort"} {
			c := s.dialTLS(t)
			fmt.Fprintf(c, "GET %s %s\r\nHost: a\r\n\r\n", path, proto)
			got, err := io.ReadAll(c)
			if err == nil || !strings.HasPrefix(path, "/flushed") && len(got) > 0 {
				t.Errorf("%s %s: %q, %v; want an error", proto, path, got, err)
			}
		}
	}
	if n := strings.Count(s.log.String(), `level=ERROR msg="handler panicked"`); n != 4 {
		t.Errorf("%d lines about 4 panics and 4 aborts\n%s", n, s.log)
	}
}

func TestContinue(t *testing.T) {
	const interim = "HTTP/1.1 100 Continue\r\n\r\n"
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/early":
			w.WriteHeader(http.StatusForbidden)
			return
		case "/flushed":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
		case "/closed":
			r.Body.Close()
			return
		}
		b, err := io.ReadAll(r.Body)
		fmt.Fprint(w, string(b), err)
	}), nil)
	tests := []struct {
		path   string
		asked  bool
		status int
		close  bool
	}{
		{"/read", true, 200, false},
		{"/early", false, 403, true},
		{"/closed", false, 200, true},
	}
	for _, tt := range tests {
		c := s.dial(t)
		br := bufio.NewReader(c)
		fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", tt.path)
		if tt.asked {
			b := make([]byte, len(interim))
			if _, err := io.ReadFull(br, b); err != nil || string(b) != interim {
				t.Fatalf("%s: %q, %v; want to be asked for the body", tt.path, b, err)
			}
			io.WriteString(c, "abc")
		}
		if res, body := answer(t, br, "POST"); res.StatusCode != tt.status || res.Close != tt.close || tt.asked && body != "abc<nil>" {
			t.Errorf("%s: %s, close %v, %q; want %d, close %v", tt.path, res.Status, res.Close, body, tt.status, tt.close)
		}
	}
}

func TestShutdownWaitsForRequests(t *testing.T) {
	noLeak(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/idle" {
			return
		}
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "done")
	}), secure)
	silent := s.dial(t)   // never begins its handshake
	fresh := s.dialTLS(t) // has not asked yet
	eventually(t, "the handshake", func() bool { _, err := fresh.Write(nil); return err == nil })
	idle := s.dialTLS(t)
	io.WriteString(idle, "GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")
	idleReader := bufio.NewReader(idle)
	answer(t, idleReader, "GET")

	busy := s.dialTLS(t)
	io.WriteString(busy, get)
	<-arrived
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve = %v", err)
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("still accepting")
	}
	for what, c := range map[string]io.Reader{"idle": idleReader, "silent": silent, "fresh": fresh} {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: not cut", what)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown in a hurry = %v; want %v", err, context.DeadlineExceeded)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown = %v before the request was done", err)
	default:
	}
	close(release)
	if res, got := answer(t, bufio.NewReader(busy), "GET"); got != "done" || !res.Close {
		t.Errorf("answer %q, close %v; want it whole, and the last", got, res.Close)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestCloseCutsEverything(t *testing.T) {
	noLeak(t)
	arrived := make(chan struct{}, 2)
	var ended atomic.Int32
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if r.Method == "POST" {
			io.Copy(io.Discard, r.Body)
		} else {
			<-r.Context().Done()
		}
		ended.Add(1)
	}), secure)
	for _, in := range []string{get, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"} {
		io.WriteString(s.dialTLS(t), in)
		<-arrived
	}
	s.dial(t)
	s.Close()
	<-s.done
	eventually(t, "the handlers to end", func() bool { return ended.Load() == 2 })
}

func TestTLS(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.ServerName, " ", r.TLS.NegotiatedProtocol)
	}), secure)
	res, err := s.client(t).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != name+" http/1.1" {
		t.Errorf("handler saw %q", got)
	}
	plain, err := http.Get("http://" + s.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("http on the https port: %s; want 400", plain.Status)
	}
}

func TestHTTP2(t *testing.T) {
	noLeak(t)
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, known := r.Context().Value(http.ServerContextKey).(*http.Server)
		arrived <- struct{}{}
		<-release
		fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName, " ", known)
	}), secure)
	tr := s.client(t).Transport.(*http.Transport)
	tr.ForceAttemptHTTP2 = true
	tr.TLSClientConfig.NextProtos = nil
	answers := make(chan string, 1)
	go func() {
		res, err := (&http.Client{Transport: tr}).Get("https://" + name + "/")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answers <- string(b)
	}()
	<-arrived
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	<-s.done
	close(release)
	if got, want := <-answers, "HTTP/2.0 "+name+" true"; got != want {
		t.Errorf("answer %q; want %q", got, want)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// A listener may do TLS itself, with the handshake done or not.
func TestListenerWithTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, tls.NewListener(l, serverTLS()), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.ServerName)
	}), nil)
	res, err := s.client(t).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != name {
		t.Errorf("handler saw %q", got)
	}
}

// Large answers arrive whole on all kinds of connections, in whatever pieces
// they are written.
func TestLargeAnswers(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(1<<20))
		}
		for n, left := 1, 1<<20; left > 0; n = n*3 + 1 {
			m, err := w.Write(make([]byte, min(n%200000, left)))
			if err != nil {
				t.Error(err)
				return
			}
			left -= m
		}
	}), secure)
	for _, path := range []string{"/length", "/chunked"} {
		res, err := s.client(t).Get("https://" + name + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if n != 1<<20 || err != nil {
			t.Errorf("%s: %d bytes, %v; want %d", path, n, err, 1<<20)
		}
	}
}

// An exhausted descriptor table must not end the accept loop, and visitors are
// served again as soon as it has room.
func TestSurvivesExhaustion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	full := &exhausted{Listener: l}
	full.fail.Store(true)
	s := serveOn(t, full, http.NotFoundHandler(), nil)
	eventually(t, "a few failures", func() bool { return full.failures.Load() > 4 })
	full.fail.Store(false)
	c := s.dial(t)
	io.WriteString(c, get)
	answer(t, bufio.NewReader(c), "GET")
	if n := strings.Count(s.log.String(), "accepting connections"); n != 1 {
		t.Errorf("%d lines about %d failures; want 1\n%s", n, full.failures.Load(), s.log)
	}
}

// exhausted is a listener without free descriptors.
type exhausted struct {
	net.Listener
	fail     atomic.Bool
	failures atomic.Int64
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.fail.Load() {
		l.failures.Add(1)
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// A client that makes mistakes all day fills one line a minute.
func TestRefusalsAreLoggedRarely(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), nil)
	for range 20 {
		talk(t, s.addr, "GET / HTTP/1.1\r\n\r\n")
		talk(t, s.addr, "\x16\x03\x01")
	}
	if n := strings.Count(s.log.String(), "refused requests"); n != 2 {
		t.Errorf("%d lines; want one a kind\n%s", n, s.log)
	}
}

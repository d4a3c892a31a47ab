package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"detour/engine/server"
)

// key is of a context value.
type key struct{}

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
		"value": func(ctx context.Context) { <-context.WithValue(ctx, key{}, "v").Done() },
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
	watching := make(chan struct{}, 1)
	s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
		ctx := r.Context()
		ctx.Done()
		if r.URL.Query().Has("watched") {
			eventually(t, "the watch", reading)
			watching <- struct{}{}
		}
		if r.URL.Query().Has("interrupted") {
			eventually(t, "the watch to have read", func() bool { return !reading() })
		}
		if ctx.Err() != nil {
			t.Error("the context ended")
		}
		fmt.Fprint(w, r.Method, r.URL.Path)
	}, secure)
	c := s.dialTLS(t)
	br := bufio.NewReader(c)
	ask := func(path string) { fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path) }
	want := func(path string) {
		t.Helper()
		if _, got := answer(t, br, "GET"); got != "GET"+path {
			t.Errorf("answer %q; want GET%s", got, path)
		}
	}
	for range 3 {
		fmt.Fprint(c, "GET /both HTTP/1.1\r\nHost: a\r\n\r\nGET /at/once HTTP/1.1\r\nHost: a\r\n\r\n")
		want("/both")
		want("/at/once")

		ask("/first?watched&interrupted")
		<-watching
		ask("/second") // while the first is served
		want("/first")
		want("/second")

		ask("/one?watched")
		<-watching
		want("/one")
		ask("/after/the/other?watched") // which the watch of the first serves
		<-watching
		want("/after/the/other")
	}
}

// What began to arrive before a handler took its time is not torn by the watch.
func TestPipelinedPartWhileWatching(t *testing.T) {
	const second = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd"
	for _, first := range []string{get, strings.Replace(second, "abcd", "efgh", 1)} {
		for cut := range len(second) {
			t.Run(fmt.Sprint(cut), func(t *testing.T) {
				t.Parallel()
				var requests atomic.Int32
				handled, rest := make(chan struct{}), make(chan struct{})
				s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
					r.Context().Done()
					b, err := io.ReadAll(r.Body)
					if requests.Add(1) == 1 {
						if cut == 0 {
							eventually(t, "the watch", reading)
						} else {
							time.Sleep(server.WatchDelay * 5 / 4) // it must not begin
						}
						close(handled)
						<-rest
					}
					fmt.Fprint(w, string(b), err)
				}, secure)
				c := s.dialTLS(t)
				io.WriteString(c, first+second[:cut])
				<-handled
				io.WriteString(c, second[cut:])
				close(rest)
				br := bufio.NewReader(c)
				answer(t, br, "GET")
				if _, got := answer(t, br, "POST"); got != "abcd<nil>" {
					t.Errorf("cut after %d bytes: answer %q; want abcd", cut, got)
				}
			})
		}
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

func TestPanics(t *testing.T) {
	s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
		r.Context().Done()
		if r.URL.Path == "/flushed" {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}
		eventually(t, "the watch", reading)
		switch r.URL.RawQuery {
		case "abort":
			panic(http.ErrAbortHandler)
		case "exit":
			runtime.Goexit()
		}
		panic("a bug")
	}, secure)
	for _, proto := range []string{"HTTP/1.1", "HTTP/1.0"} {
		for _, path := range []string{"/", "/flushed", "/?abort", "/flushed?abort", "/?exit", "/flushed?exit"} {
			c := s.dialTLS(t)
			fmt.Fprintf(c, "GET %s %s\r\nHost: a\r\n\r\n", path, proto)
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				continue // nothing was sent
			}
			if !strings.HasPrefix(path, "/flushed") {
				t.Errorf("%s %s: a panic was answered %s", proto, path, res.Status)
			}
			if got, err := io.ReadAll(res.Body); err == nil {
				t.Errorf("%s %s: the answer ends well after %q; want an error", proto, path, got)
			}
		}
	}
	if n := strings.Count(s.log.String(), `level=ERROR msg="handler panicked"`); n != 4 {
		t.Errorf("%d lines about 4 panics\n%s", n, s.log)
	}
}

// On plaintext only a reset tells that an answer without a length is cut short.
func TestAbortedAnswersLookIncomplete(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/identity" {
			w.Header().Set("Transfer-Encoding", "identity")
		}
		io.WriteString(w, "x")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the client has read what there is
		panic(http.ErrAbortHandler)
	}), nil)
	for _, request := range []string{"GET / HTTP/1.0\r\n\r\n", "GET /identity HTTP/1.1\r\nHost: a\r\n\r\n", get} {
		c := s.dial(t)
		io.WriteString(c, request)
		br := bufio.NewReader(c)
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		c.CloseWrite()
		if rest, err := io.ReadAll(res.Body); err == nil {
			t.Errorf("%q: an aborted answer ends well after %q", request, rest)
		}
	}
}

// Of an answer that breaks off the client gets what there is: one that got nothing
// may send its request again. What would look whole is not sent.
func TestBrokenAnswerBegins(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if n := query.Get("length"); n != "" {
			w.Header().Set("Content-Length", n)
		}
		if status, err := strconv.Atoi(query.Get("status")); err == nil {
			w.WriteHeader(status)
		}
		n, _ := strconv.Atoi(query.Get("written"))
		w.Write(make([]byte, n))
		panic(http.ErrAbortHandler)
	}), secure)
	tests := []struct {
		method, query string
		begins        bool
	}{
		{"GET", "length=10&written=5", true},
		{"GET", "length=5000&written=2500", true},
		{"GET", "length=50000&written=25000", true},
		{"GET", "written=2500", true},
		{"PUT", "length=10&written=5", true}, // its body is not waited for
		{"GET", "length=5&written=5", false},
		{"GET", "length=3000&written=3000", false},
		{"GET", "length=0", false},
		{"GET", "written=5", false}, // nobody knows how it goes on
		{"GET", "status=304&length=100", false},
		{"GET", "status=204&length=100", false},
		{"HEAD", "length=10&written=5", false},
		{"HEAD", "length=5000&written=2500", false},
	}
	for _, tt := range tests {
		c := s.dialTLS(t)
		length := 0
		if tt.method == "PUT" {
			length = 3
		}
		fmt.Fprintf(c, "%s /?%s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", tt.method, tt.query, length)
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: tt.method})
		if begins := err == nil; begins != tt.begins {
			t.Errorf("%s ?%s: answer begins: %v, %v; want %v", tt.method, tt.query, begins, err, tt.begins)
		}
		if err != nil {
			continue
		}
		if got, err := io.ReadAll(res.Body); err == nil || len(got) == 0 {
			t.Errorf("%s ?%s: the answer ends after %d bytes: %v; want some, and an error", tt.method, tt.query, len(got), err)
		}
	}
}

// An answer does not wait for somebody else who reads the body, and for a client
// that sends no more of it before it has the answer.
func TestAnswersBesideReader(t *testing.T) {
	read := make(chan struct{}, 2)
	s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		done := make(chan struct{})
		go func() {
			defer close(done)
			io.ReadFull(r.Body, make([]byte, 1))
			read <- struct{}{}
			io.Copy(io.Discard, r.Body)
		}()
		<-read
		eventually(t, "a wait for more", reading)
		io.WriteString(w, "early")
		rc.Flush()
		<-done
	}, nil)
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		c := s.dial(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"+expect+"\r\nabc")
		br := bufio.NewReader(c)
		if expect != "" {
			if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
				t.Fatalf("%q, %v; want to be asked for the body", line, err)
			}
			br.ReadString('\n')
		}
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Errorf("%q: no answer beside a reader: %v", expect, err)
		} else if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
			t.Errorf("%q: no body beside a reader: %v", expect, err)
		}
		c.Close()
	}
}

// "close" wins over "keep-alive" (RFC 9112, section 9.3); net/http has it the other
// way round.
func TestCloseWinsInHTTP10(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }), nil)
	for _, options := range []string{"keep-alive, close", "close, keep-alive", "keep-alive\r\nConnection: close"} {
		c := s.dial(t)
		io.WriteString(c, strings.Repeat("GET / HTTP/1.0\r\nConnection: "+options+"\r\n\r\n", 2))
		b, err := io.ReadAll(c)
		if n := strings.Count(string(b), "200 OK"); err != nil || n != 1 || strings.Contains(string(b), "keep-alive") {
			t.Errorf("Connection: %s: answers %q, %v; want one, and the end", options, b, err)
		}
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

// A handler that panics may leave somebody behind who reads the body: for him it
// ends before its buffer is another connection's.
func TestPanicBesideReader(t *testing.T) {
	noLeak(t)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read := make(chan struct{})
		go func() {
			p := make([]byte, 1)
			r.Body.Read(p)
			close(read)
			for err := error(nil); err == nil; {
				_, err = r.Body.Read(p)
			}
		}()
		<-read
		panic(http.ErrAbortHandler)
	}), nil)
	for _, framing := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
		for range 20 {
			c := s.dial(t)
			io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+framing+"\r\n\r\n"+strings.Repeat("5\r\nabcde\r\n", 500))
			io.Copy(io.Discard, c)
			c.Close()
		}
	}
}

package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
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

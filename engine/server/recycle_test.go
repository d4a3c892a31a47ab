package server_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"detour/engine/lifetime"
	"detour/engine/server"
)

// A handler may do to its request what it likes: the next one is as it came.
func TestRequestIsFresh(t *testing.T) {
	type seen struct {
		Method, URI, Path, Query, Host, Value, PathValue, Pattern string
		Header                                                    http.Header
		Form, Answer, Close                                       bool
		Remote                                                    bool
	}
	var got []seen
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, seen{r.Method, r.RequestURI, r.URL.Path, r.URL.RawQuery, r.Host, r.FormValue("v"), r.PathValue("p"), r.Pattern,
			r.Header.Clone(), r.Form != nil, len(w.Header()) > 0, r.Close, r.RemoteAddr != ""})
		w.Header().Set("X-Left", "behind")
		w.Header()[http.TrailerPrefix+"X"] = []string{"x"}
		r.Header.Set("X-Left", "behind")
		r.Method, r.Host, r.RequestURI, r.RemoteAddr, r.Close, r.Pattern = "LEFT", "left", "left", "", true, "left"
		r.URL.Host, r.URL.User, r.URL.Path = "left", nil, "left"
		r.Body, r.Trailer, r.TransferEncoding = io.NopCloser(strings.NewReader("left")), r.Header, []string{"left"}
		r.SetPathValue("p", "left")
		if len(got)%2 == 0 {
			r.URL, r.Header = nil, nil
		}
		io.WriteString(w, "x")
	}), nil)
	c := s.dial(t)
	br := bufio.NewReader(c)
	const n = 6
	for range n {
		io.WriteString(c, "GET /p?v=1 HTTP/1.1\r\nHost: a\r\nX-Y: z\r\n\r\n")
		if res, _ := answer(t, br, "GET"); res.Header.Get("X-Left") != "behind" {
			t.Errorf("answer %v", res.Header)
		}
	}
	want := seen{"GET", "/p?v=1", "/p", "v=1", "a", "1", "", "", http.Header{"X-Y": {"z"}}, true, false, false, true}
	for i, g := range got {
		if diff := cmp.Diff(want, g); diff != "" {
			t.Errorf("request %d (-want +got):\n%s", i, diff)
		}
	}
	if len(got) != n {
		t.Errorf("%d requests; want %d", len(got), n)
	}
}

// Under the race detector, a request that is kept is poisoned; without it, the
// test is that nothing breaks.
func TestKeptRequestIsPoisoned(t *testing.T) {
	kept := make(chan *http.Request, 4)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { kept <- r }), nil)
	c := s.dial(t)
	io.WriteString(c, "GET /p HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /q HTTP/1.1\r\nHost: a\r\n\r\n")
	io.ReadAll(c) // the end of the connection
	if r := <-kept; r.URL.Path != "/p" {
		t.Errorf("the last request of a connection has URL %v; want it untouched", r.URL)
	}
	c = s.dial(t)
	br := bufio.NewReader(c)
	io.WriteString(c, get)
	answer(t, br, "GET")
	io.WriteString(c, get) // by then the first one is over for good
	answer(t, br, "GET")
	if r := <-kept; lifetime.Poison && (r.URL != nil || r.Method == "GET" || r.Context() != context.Background()) {
		t.Errorf("a request that was kept is still %q %v", r.Method, r.URL)
	}
}

// What waits for the end of a request keeps it from being used again.
func TestAfterFunc(t *testing.T) {
	type afterFuncer interface {
		AfterFunc(func()) (stop func() bool)
	}
	called := make(chan string, 20)
	call := func(name string) func() { return func() { called <- name } }
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := r.Context().(afterFuncer)
		switch r.URL.Path {
		case "/stopped":
			stop := a.AfterFunc(call("stopped"))
			if !stop() || stop() {
				t.Error("a callback could not be stopped once")
			}
			if second := a.AfterFunc(call("second")); !second() {
				t.Error("the callback after it could not be stopped")
			}
		case "/left":
			a.AfterFunc(call("left"))
			context.AfterFunc(r.Context(), call("left by package context"))
			a.AfterFunc(call("left too"))
		case "/gone":
			a.AfterFunc(call("gone"))
			for r.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			stop := a.AfterFunc(call("after it was gone"))
			if stop() {
				t.Error("a callback after the end could be stopped")
			}
		case "/polled": // without ever having asked for a channel
			for r.Context().Err() == nil {
				time.Sleep(time.Millisecond)
			}
			called <- "polled"
		}
	}), secure)
	want := func(names ...string) {
		t.Helper()
		missing := map[string]bool{}
		for _, name := range names {
			missing[name] = true
		}
		for range names {
			select {
			case got := <-called:
				if !missing[got] {
					t.Errorf("called %q; want one of %v", got, missing)
				}
				delete(missing, got)
			case <-time.After(5 * time.Second):
				t.Fatalf("not called: %v", missing)
			}
		}
	}
	c := s.dialTLS(t)
	br := bufio.NewReader(c)
	for range 3 {
		for _, path := range []string{"/stopped", "/left", "/stopped"} {
			io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			answer(t, br, "GET")
		}
		want("left", "left by package context", "left too")
	}
	for path, names := range map[string][]string{"/gone": {"gone", "after it was gone"}, "/polled": {"polled"}} {
		c := s.dialTLS(t)
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		c.NetConn().Close()
		want(names...)
	}
	select {
	case got := <-called:
		t.Errorf("called %q, which was stopped", got)
	case <-time.After(20 * time.Millisecond):
	}
}

// What a handler kept is of no use once it has returned, though the memory is used
// again: it neither reaches another request nor harms the server.
func TestKeptWriter(t *testing.T) {
	if lifetime.Poison {
		t.Skip("nothing is used again under the race detector")
	}
	type kept struct {
		w             http.ResponseWriter
		r             *http.Request
		asked, answer http.Header
	}
	over := make(chan kept, 2)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/kept":
			over <- kept{w, r, r.Header, w.Header()}
		case "/unasked":
			over <- kept{w, r, r.Header, nil}
		default:
			fmt.Fprint(w, "own", r.Header)
		}
	}), nil)
	c := s.dial(t)
	br := bufio.NewReader(c)
	for _, path := range []string{"/kept", "/unasked"} {
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		answer(t, br, "GET")
		k := <-over
		eventually(t, "the memory to be free", func() bool { return k.r.Method == "" })
		k.w.Header().Set("Left", "over")
		k.asked.Set("Left", "over")
		if k.answer != nil {
			k.answer.Set("Left", "over")
		}
		k.w.WriteHeader(http.StatusTeapot)
		rc := http.NewResponseController(k.w)
		for name, late := range map[string]func() error{
			"Write":            func() error { _, err := k.w.Write([]byte("SECRET")); return err },
			"WriteString":      func() error { _, err := io.WriteString(k.w, "SECRET"); return err },
			"Flush":            rc.Flush,
			"Hijack":           func() error { _, _, err := rc.Hijack(); return err },
			"EnableFullDuplex": rc.EnableFullDuplex,
			"SetReadDeadline":  func() error { return rc.SetReadDeadline(time.Unix(1, 0)) },
			"SetWriteDeadline": func() error { return rc.SetWriteDeadline(time.Unix(1, 0)) },
		} {
			if err := late(); !errors.Is(err, server.ErrOver) {
				t.Errorf("%s after the handler has returned = %v; want %v", name, err, server.ErrOver)
			}
		}
		for range 50 { // which of them gets the same memory, nobody can say
			io.WriteString(c, get)
			if res, body := answer(t, br, "GET"); res.StatusCode != http.StatusOK || res.Header.Get("Left") != "" || body != "ownmap[]" {
				t.Fatalf("%s: another request was answered %d, %v, %q", path, res.StatusCode, res.Header, body)
			}
		}
	}
}

// A writer that was kept of a request with a body, which is not used again, sets no
// deadline to the next request of its connection.
func TestKeptWriterSetsNoDeadline(t *testing.T) {
	kept, arrived := make(chan http.ResponseWriter, 1), make(chan struct{})
	late := make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			io.Copy(io.Discard, r.Body)
			kept <- w
			return
		}
		close(arrived)
		<-late
		fmt.Fprint(w, r.Context().Err())
	}), nil)
	c := s.dial(t)
	br := bufio.NewReader(c)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
	answer(t, br, "POST")
	io.WriteString(c, get)
	<-arrived
	rc := http.NewResponseController(<-kept)
	for name, set := range map[string]func(time.Time) error{"SetReadDeadline": rc.SetReadDeadline, "SetWriteDeadline": rc.SetWriteDeadline} {
		if err := set(time.Unix(1, 0)); !errors.Is(err, server.ErrOver) {
			t.Errorf("%s after the handler has returned = %v; want %v", name, err, server.ErrOver)
		}
	}
	close(late)
	if _, body := answer(t, br, "GET"); body != "<nil>" {
		t.Errorf("the next request's context: %s", body)
	}
}

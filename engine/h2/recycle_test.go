package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"detour/engine/lifetime"
)

// A request shows nothing of the one before it, which used the same memory.
func TestNothingIsLeftOver(t *testing.T) {
	noLeaks(t)
	var told string
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told = fmt.Sprint(r.Method, " ", r.Host, " ", r.URL, " ", r.RequestURI, " ", r.Header, " ", r.ContentLength, " ",
			r.Trailer, " ", r.Form, " ", r.Pattern, " ", r.PathValue("x"), " ", string(body), " ", w.Header(), " ", r.Context().Err())
		if r.URL.Path == "/" {
			return
		}
		_ = r.ParseForm()
		r.Pattern, r.Method, r.URL.RawQuery = "p", "X", "left=over"
		r.SetPathValue("x", "y")
		r.Header.Set("Left", "over")
		w.Header().Set("Left", "over")
		w.Header().Set("Content-Length", "4")
		w.Header().Set("Trailer", "A")
		w.Header().Set("Date", "")
		w.WriteHeader(404)
		_, _ = io.WriteString(w, "left")
		w.Header().Set("A", "b")
	}, Options{})
	r := g.dial(t)
	const want = "GET a.test / / map[] 0 map[] map[]    map[] <nil>"
	id := uint32(1)
	ask := func(block []byte) {
		r.headers(id, block, true)
		r.until("the answer", endOf(id))
		id += 2
	}
	for name, block := range map[string][]byte{
		"plain":    path("GET", "/other"),
		"query":    path("GET", "/other?a=b"),
		"HEAD":     path("HEAD", "/other"),
		"OPTIONS":  path("OPTIONS", "*"),
		"expect":   request("POST", "expect", "100-continue", "x", "y"),
		"trailers": request("POST", "trailer", "a"),
	} {
		ask(block)
		ask(get())
		if told != want {
			t.Errorf("after %s, a request is\n%s; want\n%s", name, told, want)
		}
	}
	ask(get("a", "B")) // malformed in no way, so what follows is told, too
	r.headers(id, get("A", "malformed"), true)
	r.wantReset(id, protocol)
	id += 2
	ask(get())
	if told != want {
		t.Errorf("after a malformed one, a request is\n%s; want\n%s", told, want)
	}
}

// Whoever asks when a context ends, learns it, however late he looks.
func TestKeptContexts(t *testing.T) {
	noLeaks(t)
	kept := make(chan context.Context, 1)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/done":
			_ = r.Context().Done()
			kept <- r.Context()
		case "/child":
			child, cancel := context.WithCancel(r.Context())
			context.AfterFunc(child, cancel)
			kept <- child
		}
	}, Options{})
	r := g.dial(t)
	id := uint32(1)
	for _, p := range []string{"/done", "/child"} {
		r.headers(id, path("GET", p), true)
		r.until("the answer", endOf(id))
		id += 2
		ctx := <-kept
		<-ctx.Done()
		for range 20 { // others in between
			r.headers(id, get(), true)
			r.until("the answer", endOf(id))
			id += 2
		}
		if err := ctx.Err(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the context of a request that is over says %v", p, err)
		}
	}
}

// Under the race detector a request that is over is nonsense: a handler that
// keeps it is found.
func TestPoison(t *testing.T) {
	if !lifetime.Poison {
		t.Skip("only for the race detector")
	}
	var kept *http.Request
	var header http.Header
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/kept" {
			kept, header = r, w.Header()
		}
	}, Options{})
	r := g.dial(t)
	r.headers(1, path("GET", "/kept"), true)
	r.until("the answer", endOf(1))
	g.mu.Lock()
	for c := range g.conns { // who has written the answer had this lock, too
		c.mu.Lock()
		if c.handlers > 0 {
			t.Error("the handler has not returned")
		}
		c.mu.Unlock()
	}
	g.mu.Unlock()
	if !strings.Contains(kept.Method, "over") || kept.Header != nil || header.Get("Poisoned") == "" {
		t.Errorf("a request that was kept looks like one: %v, %v", kept, header)
	}
}

// What a handler kept is of no use once it has returned, though the memory is used
// again: it neither reaches another request nor harms the server.
func TestKeptWriter(t *testing.T) {
	if lifetime.Poison {
		t.Skip("nothing is used again under the race detector")
	}
	noLeaks(t)
	type kept struct {
		w      http.ResponseWriter
		r      *http.Request
		answer http.Header
		ctx    context.Context
	}
	over := make(chan kept, 1)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/kept" {
			r.Header.Set("Asked", "something")
			over <- kept{w, r, w.Header(), r.Context()}
			return
		}
		_, _ = fmt.Fprint(w, "own", r.Header)
	}, Options{})
	r := g.dial(t)
	r.headers(1, path("GET", "/kept"), true)
	r.until("the answer", endOf(1))
	k := <-over
	waitFor(t, "the stream to be used again", func() bool { return k.r.Method == "" })

	if k.r.URL != nil || k.r.Header != nil || k.r.Context().Err() != nil {
		t.Errorf("a request that is over says %+v", k.r)
	}
	if err := k.ctx.Err(); !errors.Is(err, context.Canceled) {
		t.Errorf("the context of a request that is over says %v; want %v", err, context.Canceled)
	}
	k.answer.Set("Left", "over")
	k.w.WriteHeader(http.StatusTeapot)
	controller := http.NewResponseController(k.w)
	for name, late := range map[string]func() error{
		"Write":            func() error { _, err := k.w.Write([]byte("SECRET")); return err },
		"WriteString":      func() error { _, err := io.WriteString(k.w, "SECRET"); return err },
		"Flush":            controller.Flush,
		"SetReadDeadline":  func() error { return controller.SetReadDeadline(time.Unix(1, 0)) },
		"SetWriteDeadline": func() error { return controller.SetWriteDeadline(time.Unix(1, 0)) },
	} {
		if err := late(); !errors.Is(err, errHandlerDone) {
			t.Errorf("%s after the handler has returned = %v; want %v", name, err, errHandlerDone)
		}
	}
	for range 100 { // which of them gets the same memory, nobody can say
		res, err := g.client.Get(g.url("/"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK || res.Header.Get("Left") != "" || !strings.HasPrefix(string(body), "ownmap[") || strings.Contains(string(body), "Asked") {
			t.Fatalf("another request was answered %d, %v, %q", res.StatusCode, res.Header, body)
		}
	}
}

package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
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

func TestAfterFunc(t *testing.T) {
	var c requestContext
	c.init()
	ran := make(chan int, 10)
	for round := range 3 {
		c.reset(context.Background())
		stops := make([]func() bool, 4)
		for i := range stops {
			stops[i] = c.AfterFunc(func() { ran <- i })
		}
		for _, i := range []int{round, 3} {
			if !stops[i]() || stops[i]() {
				t.Errorf("stop of callback %d in round %d; want true once", i, round)
			}
		}
		if c.mayReturn() {
			t.Error("may be used again while callbacks wait")
		}
		c.cancel()
		var sum int
		for range 2 {
			sum += <-ran
		}
		if want := 0 + 1 + 2 - round; sum != want {
			t.Errorf("round %d ran others than it should", round)
		}
		if c.mayReturn() {
			t.Error("may be used again after callbacks ran")
		}
		if stops[(round+1)%3]() {
			t.Error("stopped a callback that ran")
		}
		late := make(chan struct{})
		if c.AfterFunc(func() { close(late) })() {
			t.Error("stopped a callback that was too late")
		}
		<-late
		c.ran = false
	}
	c.reset(context.Background())
	if n := testing.AllocsPerRun(100, func() {
		c.reset(context.Background())
		c.AfterFunc(runtime.GC)()
	}); n != 0 && !poison {
		t.Errorf("one callback costs %v allocations; want 0", n)
	}
	if !c.mayReturn() {
		t.Error("may not be used again after a callback that was stopped")
	}
}

// Under the race detector a request that is over is nonsense: a handler that
// keeps it is found.
func TestPoison(t *testing.T) {
	if !poison {
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

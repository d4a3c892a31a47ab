package h2

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
)

// A client that does not read must cost bounded memory and nobody else's time.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams = 100
		var running, taken atomic.Int64
		handler := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/small" {
				return
			}
			running.Add(1)
			defer running.Add(-1)
			for {
				n, err := w.Write(make([]byte, 32<<10))
				if err != nil {
					return
				}
				taken.Add(int64(n))
			}
		}
		r, c := pipe(t, handler, Options{})
		r.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		r.WriteWindowUpdate(0, 1<<30)
		for i := range uint32(streams) {
			r.headers(2*i+1, get(), true)
		}
		synctest.Wait() // until nothing moves
		if n := running.Load(); n != streams {
			t.Errorf("%d handlers run; want %d, all of them stuck", n, streams)
		}
		if n := taken.Load(); n > 2*maxOut { // what is being written, and what will be next
			t.Errorf("%d bytes were taken from the handlers; want at most %d", n, 2*maxOut)
		}
		c.mu.Lock()
		if n := cap(c.out); n > largeBuffer {
			t.Errorf("%d bytes wait to be written; want at most %d", n, largeBuffer)
		}
		c.mu.Unlock()
		other, _ := pipe(t, handler, Options{})
		other.greet()
		other.headers(1, path("GET", "/small"), true)
		other.until("the answer", endOf(1))
		r.conn.Close()
		synctest.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("%d handlers still write to a client that is gone", n)
		}
	})
}

// Nor is it in the way of a request that waits for a handler.
func TestSlowReaderFreesHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := map[string]chan struct{}{"/reset": make(chan struct{}), "/answered": make(chan struct{})}
		defer close(release["/reset"])
		served := false
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) {
			if wait := release[r.URL.Path]; wait != nil {
				<-wait
			} else {
				served = true
			}
		}, Options{Limits: Limits{Streams: 2}})
		r.greet()
		r.headers(1, path("GET", "/reset"), true)
		r.headers(3, path("GET", "/answered"), true)
		synctest.Wait()                          // both handlers run: one that does not is not started after a reset
		r.WriteRSTStream(1, http2.ErrCodeCancel) // its handler does not look
		r.headers(5, path("GET", "/waits"), true)
		synctest.Wait()
		if served {
			t.Error("more handlers than streams")
		}
		close(release["/answered"]) // which nobody reads
		synctest.Wait()
		if !served {
			t.Error("the request waits for an answer to be read")
		}
	})
}

// What is written at once of a long body fills TLS records: otherwise each write
// would end with a record of a few bytes.
func TestWritesFillRecords(t *testing.T) {
	const record = 16 << 10 // RFC 8446, section 5.1
	g := start(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 3*maxOut)) }, Options{})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	r.WriteWindowUpdate(0, 1<<20)
	r.headers(1, get(), true)
	sent, filled := 0, 0
	r.until("its end", func(f http2.Frame) bool {
		if f.Header().StreamID == 1 {
			sent += frameHeader + int(f.Header().Length)
		}
		if sent == (filled+1)*4*record {
			filled++
		}
		return endOf(1)(f)
	})
	if filled != 3 {
		t.Errorf("%d writes were of four full records; want 3", filled)
	}
}

// A stream without window must not hold up the others of its connection.
func TestStreamWindows(t *testing.T) {
	const n = 100_000
	g := start(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, n)) }, Options{})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	got := map[uint32]int{}
	r.headers(1, get(), true)
	r.until("what the window of stream 1 allows", func(f http2.Frame) bool {
		d, ok := f.(*http2.DataFrame)
		if ok {
			got[1] += len(d.Data())
		}
		return ok
	})
	r.headers(3, get(), true)
	r.WriteWindowUpdate(0, 1<<20)
	r.WriteWindowUpdate(3, n)
	r.until("the end of stream 3", func(f http2.Frame) bool {
		if d, ok := f.(*http2.DataFrame); ok {
			got[d.StreamID] += len(d.Data())
		}
		return endOf(3)(f)
	})
	if got[1] != 10 || got[3] != n {
		t.Errorf("got %v; want 10 bytes of stream 1, %d of 3", got, n)
	}
	r.setting(http2.SettingInitialWindowSize, 1) // smaller than what is used: the window is negative now
	r.WriteWindowUpdate(1, 8)
	r.want(nothing)
	r.setting(http2.SettingInitialWindowSize, n)
	r.until("the end of stream 1", func(f http2.Frame) bool {
		if d, ok := f.(*http2.DataFrame); ok {
			got[d.StreamID] += len(d.Data())
		}
		return endOf(1)(f)
	})
	if got[1] != n {
		t.Errorf("got %d bytes of stream 1; want %d", got[1], n)
	}
}

// An upload over a long way goes as fast as net/http's window lets it: a client
// that has sent what it may hears of more while most of that is on its way.
func TestUploadWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const netHTTP = 1 << 20
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }, Options{})
		r.buffer().greet()
		limits := DefaultLimits()
		if limits.StreamWindow < netHTTP || limits.ConnWindow < netHTTP {
			t.Errorf("a client may send %d bytes of a body, %d of all; want %d", limits.StreamWindow, limits.ConnWindow, netHTTP)
		}
		r.headers(1, path("POST", "/"), false)
		sent, told := 0, map[uint32]int{}
		for told[0] == 0 || told[1] == 0 {
			if sent >= limits.ConnWindow/3 {
				t.Fatalf("after %d bytes the client was told %v; want more of both windows", sent, told)
			}
			r.WriteData(1, false, make([]byte, maxFrame))
			sent += maxFrame
			synctest.Wait() // until the handler has read that
			r.WritePing(false, [8]byte{})
			r.until("the answer to the ping", func(f http2.Frame) bool {
				if f, ok := f.(*http2.WindowUpdateFrame); ok {
					told[f.StreamID] += int(f.Increment)
				}
				return f.Header().Type == http2.FramePing
			})
		}
	})
}

// Streams share the connection's window in turns.
func TestFairness(t *testing.T) {
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		for range 64 {
			w.Write(make([]byte, 64<<10))
		}
	}, Options{})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	const streams = 10
	for i := range uint32(streams) {
		r.headers(2*i+1, get(), true)
	}
	got := map[uint32]int{}
	total := 0
	for total < 10<<20 {
		f := r.until("DATA", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
		n := len(f.(*http2.DataFrame).Data())
		got[f.Header().StreamID] += n
		total += n
		r.WriteWindowUpdate(0, uint32(n))
	}
	for id, n := range got {
		if n < total/streams/3 || n > total/streams*3 {
			t.Errorf("stream %d got %d of %d bytes: %v", id, n, total, got)
		}
	}
	if len(got) != streams {
		t.Errorf("%d streams got something; want %d", len(got), streams)
	}
}

// They do so, too, when a client gives the window in pieces that come together.
func TestFairnessInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) }, Options{})
		r.buffer().greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		const streams, rounds, piece = 5, 200, 1000
		for i := range uint32(streams) {
			r.headers(2*i+1, get(), true)
			synctest.Wait()
		}
		turns := map[uint32]int{}
		take := func(n int) {
			for n > 0 {
				d := r.until("DATA", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData }).(*http2.DataFrame)
				turns[d.StreamID]++
				n -= len(d.Data())
			}
		}
		take(firstWindow)
		clear(turns)
		pieces := bytes.Repeat(appendWindowUpdate(nil, 0, piece), 2)
		for range rounds {
			r.conn.Write(pieces)
			take(2 * piece)
		}
		least, most := rounds, 0
		for i := range uint32(streams) {
			least, most = min(least, turns[2*i+1]), max(most, turns[2*i+1])
		}
		if most > least+1 {
			t.Errorf("streams had from %d to %d turns each: %v", least, most, turns)
		}
	})
}

// Uploads must go on while others' bodies are left unread.
func TestUnreadBody(t *testing.T) {
	release := make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/unread" {
			<-release
			return
		}
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}, Options{})
	stuck := make(chan error)
	go func() {
		res, err := g.client.Post(g.url("/unread"), "", bytes.NewReader(make([]byte, 8<<20)))
		if err == nil {
			res.Body.Close()
		}
		stuck <- err
	}()
	for range 5 {
		res, err := g.client.Post(g.url("/"), "", bytes.NewReader(make([]byte, 8<<20)))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if want := fmt.Sprint(8<<20, nil); string(b) != want {
			t.Errorf("got %q; want %q", b, want)
		}
	}
	close(release)
	<-stuck
	// What was not read is given back: the connection's window is whole again.
	res, err := g.client.Post(g.url("/"), "", bytes.NewReader(make([]byte, 8<<20)))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

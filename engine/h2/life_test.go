package h2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// until reads frames until one satisfies ok.
func (r *raw) until(what string, ok func(http2.Frame) bool) http2.Frame {
	r.t.Helper()
	for {
		f, err := r.ReadFrame()
		if err != nil {
			r.t.Fatalf("waiting for %s: %v", what, err)
		}
		if ok(f) {
			return f
		}
	}
}

func isGoAway(f http2.Frame) bool { _, ok := f.(*http2.GoAwayFrame); return ok }

func endOf(id uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool {
		h := f.Header()
		return h.StreamID == id && (h.Type == http2.FrameHeaders || h.Type == http2.FrameData) && h.Flags.Has(http2.FlagDataEndStream)
	}
}

// closed waits until the server has closed the connection.
func (r *raw) closed() {
	r.t.Helper()
	for {
		if _, err := r.ReadFrame(); err != nil {
			if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
				r.t.Error("the connection was left open")
			}
			return
		}
	}
}

func TestClientResetEndsContext(t *testing.T) {
	noLeaks(t)
	began, ended := make(chan struct{}), make(chan error)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		stopped := make(chan struct{})
		context.AfterFunc(r.Context(), func() { close(stopped) })
		never := context.AfterFunc(r.Context(), func() { t.Error("called although stopped") })
		if !never() {
			t.Error("stop() = false before the end")
		}
		close(began)
		<-stopped
		<-r.Context().Done()
		if never() {
			t.Error("stop() = true after the end")
		}
		_, err := w.Write(make([]byte, 1<<20))
		ended <- errors.Join(r.Context().Err(), err)
	}, Options{})
	r := g.dial(t)
	r.headers(1, get(), true)
	<-began
	r.WriteRSTStream(1, http2.ErrCodeCancel)
	if err := <-ended; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "CANCEL") {
		t.Errorf("context and write ended with %v; want both", err)
	}
	r.want(nothing) // the connection lives
}

func TestClientGoneEndsContexts(t *testing.T) {
	noLeaks(t)
	var running atomic.Int32
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		if r.Method == "PUT" { // stuck in reading
			io.Copy(io.Discard, r.Body)
		} else { // stuck in writing
			for {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					break
				}
			}
		}
		<-r.Context().Done()
		running.Add(-1)
	}, Options{})
	r := g.dial(t)
	for id := uint32(1); id < 40; id += 4 {
		r.headers(id, get(), true)
		r.headers(id+2, request("PUT"), false)
	}
	waitFor(t, "the handlers", func() bool { return running.Load() == 20 })
	r.conn.Close()
	waitFor(t, "the handlers' end", func() bool { return running.Load() == 0 })
}

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

func TestContinue(t *testing.T) {
	g := start(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }, Options{})
	r := g.dial(t)
	r.headers(1, request("POST", "expect", "100-continue"), false)
	r.want(status(100))
	r.WriteData(1, true, []byte("x"))
	r.until("the end", endOf(1))
}

// A WebSocket's way: both directions at once for as long as both like.
func TestExtendedConnect(t *testing.T) {
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header[":protocol"]; len(got) != 1 || got[0] != "websocket" {
			t.Errorf("header = %v", r.Header)
		}
		w.WriteHeader(200)
		rc := http.NewResponseController(w)
		rc.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			w.Write(bytes.ToUpper(b[:n]))
			rc.Flush()
			if err != nil {
				return
			}
		}
	}, Options{})
	r := g.dial(t)
	r.headers(1, request("CONNECT", ":protocol", "websocket"), false)
	for _, s := range []string{"one", "two"} {
		r.WriteData(1, false, []byte(s))
		f := r.until("an echo", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
		if got := string(f.(*http2.DataFrame).Data()); got != strings.ToUpper(s) {
			t.Errorf("echo = %q; want %q", got, strings.ToUpper(s))
		}
	}
	r.WriteData(1, true, nil)
	r.until("the end", endOf(1))
}

func TestShutdown(t *testing.T) {
	noLeaks(t)
	began, release := make(chan struct{}, 3), make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		<-release
		io.WriteString(w, "served")
	}, Options{})
	r := g.dial(t)
	r.headers(1, get(), true)
	<-began
	g.shutdown()
	first := r.until("GOAWAY", isGoAway).(*http2.GoAwayFrame)
	if first.LastStreamID != 1<<31-1 || first.ErrCode != noErr {
		t.Errorf("first GOAWAY = %v; want no error and the highest stream", first)
	}
	ping := r.until("PING", func(f http2.Frame) bool { return f.Header().Type == http2.FramePing }).(*http2.PingFrame)
	r.headers(3, get(), true) // the client had not heard of it
	<-began
	r.WritePing(true, ping.Data)
	second := r.until("GOAWAY", isGoAway).(*http2.GoAwayFrame)
	if second.LastStreamID != 3 || second.ErrCode != noErr {
		t.Errorf("second GOAWAY = %v; want no error and stream 3", second)
	}
	r.headers(5, get(), true) // too late: it knows that it is not served
	r.WriteData(5, true, nil)
	close(release)
	ended := 0
	r.until("both answers", func(f http2.Frame) bool {
		if endOf(1)(f) || endOf(3)(f) {
			ended++
		}
		return ended == 2
	})
	r.closed()
	if len(began) > 0 {
		t.Error("a request after GOAWAY was served")
	}
}

// Who reads slowly gets the last answer whole.
func TestShutdownSlowReader(t *testing.T) {
	noLeaks(t)
	const n = 4 << 20
	began := make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		w.Write(make([]byte, n))
	}, Options{})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	r.WriteWindowUpdate(0, 1<<30)
	r.headers(1, get(), true)
	<-began
	g.shutdown()
	got := 0
	paused := false
	r.until("the end", func(f http2.Frame) bool {
		if d, ok := f.(*http2.DataFrame); ok {
			got += len(d.Data())
			if !paused && got > n/4 {
				paused = true
				time.Sleep(1500 * time.Millisecond) // longer than a mistake would be waited for
			}
		}
		return endOf(1)(f)
	})
	if got != n {
		t.Errorf("got %d bytes; want %d", got, n)
	}
}

func TestConnectionClose(t *testing.T) {
	g := start(t, func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") }, Options{})
	r := g.dial(t)
	r.headers(1, get(), true)
	r.until("GOAWAY", isGoAway)
}

func TestIdleTimeout(t *testing.T) {
	const limit = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(3 * limit / 2) // it is not idle meanwhile
		}, Options{Limits: Limits{IdleTimeout: limit}})
		r.greet()
		r.headers(1, get(), true)
		r.until("the answer", endOf(1))
		idle := time.Now()
		f := r.until("GOAWAY", isGoAway).(*http2.GoAwayFrame)
		took(t, "GOAWAY", idle, limit)
		if f.ErrCode != noErr || f.LastStreamID != 1 {
			t.Errorf("GOAWAY = %v; want no error, stream 1", f)
		}
		r.closed()
	})
}

func TestHeaderTimeout(t *testing.T) {
	const limit = 100 * time.Millisecond
	o := Options{Limits: Limits{HeaderTimeout: limit}}
	tests := map[string]func(r *raw){
		"nothing":      func(r *raw) {},
		"half preface": func(r *raw) { io.WriteString(r.conn, http2.ClientPreface[:10]) },
		"no SETTINGS":  func(r *raw) { io.WriteString(r.conn, http2.ClientPreface) },
		"half frame": func(r *raw) {
			r.greet()
			io.WriteString(r.conn, "\x00\x00\x10\x01\x04\x00\x00\x00\x01x")
		},
		"half block": func(r *raw) {
			r.greet()
			r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get()})
		},
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := pipe(t, func(http.ResponseWriter, *http.Request) {}, o)
				begun := time.Now()
				do(r)
				r.until("GOAWAY", isGoAway)
				took(t, "GOAWAY", begun, limit)
				r.closed()
			})
		})
	}
	t.Run("in time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, _ := pipe(t, func(http.ResponseWriter, *http.Request) {}, o)
			r.greet()
			for id := uint32(1); id < 7; id += 2 {
				time.Sleep(limit - 1)
				b := get()
				r.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:3], EndStream: true})
				time.Sleep(limit - 1)
				r.WriteContinuation(id, true, b[3:])
				r.until("the answer", endOf(id))
			}
		})
	})
}

func TestWriteTimeout(t *testing.T) {
	noLeaks(t)
	failed := make(chan error, 1)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				failed <- err
				return
			}
		}
	}, Options{Limits: Limits{WriteTimeout: 200 * time.Millisecond}})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	r.WriteWindowUpdate(0, 1<<30)
	r.headers(1, get(), true)
	select {
	case err := <-failed:
		if !errors.Is(err, errClientGone) {
			t.Errorf("Write = %v; want %v", err, errClientGone)
		}
	case <-time.After(10 * time.Second):
		t.Error("a client that reads nothing was waited for")
	}
}

// Who takes nothing gets no time to end its side, either.
func TestWriteTimeoutOfTheLastAnswer(t *testing.T) {
	noLeaks(t)
	failed := make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		for err := error(nil); err == nil; {
			_, err = w.Write(make([]byte, 1<<20))
		}
		close(failed)
	}, Options{Limits: Limits{WriteTimeout: 500 * time.Millisecond}})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	r.WriteWindowUpdate(0, 1<<30)
	r.headers(1, get(), true)
	r.WriteGoAway(0, noErr, nil)
	<-failed
	begun := time.Now()
	waitFor(t, "the end of the connection", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.conns) == 0
	})
	if took := time.Since(begun); took > lingerOrderly/2 {
		t.Errorf("ended after %v; want at once", took)
	}
}

package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

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

// Who finds that a body broke off asks the context whose doing that was.
func TestContextEndsBeforeBodyBreaksOff(t *testing.T) {
	if runtime.GOMAXPROCS(0) == 1 {
		t.Skip("its handlers never sleep, and would keep the only processor from the connection")
	}
	noLeaks(t)
	const streams = 500
	began, ended := make(chan struct{}), make(chan error, streams)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		began <- struct{}{}
		for err := error(nil); err == nil; { // awake, so that it sees the end at once
			_, err = r.Body.Read(nil)
		}
		ended <- r.Context().Err()
	}, Options{})
	r := g.dial(t)
	for i := range uint32(streams) {
		r.open(2*i + 1)
		<-began
		r.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
	}
	for range streams {
		if err := <-ended; err == nil {
			t.Fatal("a body broke off while its context had not ended")
		}
	}
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

// The fields of 1xx answers and trailers are in the order of their names, like
// those of the answer.
func TestOrderOfFields(t *testing.T) {
	names := strings.Split("abcdefghijklmnop", "")
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		for _, name := range names {
			w.Header().Set("X-"+name, "y")
			w.Header().Set(http.TrailerPrefix+"X-"+name, "z")
		}
		w.WriteHeader(http.StatusEarlyHints)
	}, Options{})
	r := g.dial(t)
	r.headers(1, get(), true)
	d := hpack.NewDecoder(4096, nil)
	for _, what := range []string{"interim answer", "answer", "trailers"} {
		block := r.until(what, func(f http2.Frame) bool { return f.Header().Type == http2.FrameHeaders })
		fields, err := d.DecodeFull(block.(*http2.HeadersFrame).HeaderBlockFragment())
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, f := range fields {
			if name, ok := strings.CutPrefix(f.Name, "x-"); ok {
				got += name
			}
		}
		if want := strings.Join(names, ""); got != want {
			t.Errorf("%s: fields %q; want %q", what, got, want)
		}
	}
}

package h2

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// The end of an answer does not wait for a window for ever.
func TestWindowNeverComes(t *testing.T) {
	noLeaks(t)
	g := start(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") },
		Options{Limits: Limits{WriteTimeout: 50 * time.Millisecond}})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	r.headers(1, get(), true)
	r.until("a reset", func(f http2.Frame) bool { return f.Header().Type == http2.FrameRSTStream })
}

// Who does not read our answers to his pings is not read from either, wherever
// what he sends is cut.
func TestUnreadPings(t *testing.T) {
	noLeaks(t)
	const ping = "\x00\x00\x08\x06\x00\x00\x00\x00\x00xxxxxxxx"
	for name, cut := range map[string]int{"whole frames": 0, "half headers": 5, "half payloads": 13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var conn atomic.Pointer[Conn]
			g := startTuned(t, func(w http.ResponseWriter, r *http.Request) {},
				Options{Limits: Limits{WriteTimeout: 500 * time.Millisecond}}, func(c *Conn) {
					conn.Store(c)
					c.in.guard.left = math.MaxInt // it would notice first
				})
			r := g.dial(t)
			_, _ = io.WriteString(r.conn, ping[:cut])
			pings := bytes.Repeat([]byte(ping[cut:]+ping[:cut]), 900) // fit into one TLS record
			for {
				if _, err := r.conn.Write(pings); err != nil {
					return // cut, as nothing was read for so long
				}
				c := conn.Load()
				c.mu.Lock()
				n := cap(c.out)
				c.mu.Unlock()
				if n > 2*largeBuffer {
					t.Fatalf("%d bytes wait to be written", n)
				}
			}
		})
	}
}

// Honest clients under slow handlers are neither cut nor refused more than
// they should.
func TestSlowHandlersAndResets(t *testing.T) {
	noLeaks(t)
	release := make(chan struct{})
	var running, most atomic.Int32
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		n := running.Add(1)
		defer running.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if r.URL.Path != "/ok" {
			<-release // whatever the client does
		}
	}, Options{Limits: Limits{Streams: 50}})
	r := g.dial(t)
	id := uint32(1)
	for n := range int32(1000) { // 20 times as many as may run, all given up
		r.headers(id, get(), true)
		if n < 50 { // else it is given up before it runs
			waitFor(t, "the handler", func() bool { return running.Load() > n })
		}
		r.WriteRSTStream(id, http2.ErrCodeCancel)
		id += 2
	}
	r.want(nothing)
	r.headers(id, path("GET", "/ok"), true) // waits, and is not refused
	r.want(nothing)
	close(release)
	r.until("the answer", endOf(id))
	if most.Load() > 50 {
		t.Errorf("%d handlers ran at once; want at most 50", most.Load())
	}
}

// A burst that ends is slowed down, and nothing else happens to its client.
func TestBurst(t *testing.T) {
	noLeaks(t)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {}, Options{})
	r := g.dial(t)
	begun := time.Now()
	var sending sync.WaitGroup
	sending.Go(func() {
		ping := []byte("\x00\x00\x08\x06\x00\x00\x00\x00\x00xxxxxxxx")
		_, _ = r.conn.Write(bytes.Repeat(ping, allowance+allowanceSecond/4))
		r.headers(1, get(), true)
	})
	r.until("the answer", endOf(1))
	sending.Wait()
	if took := time.Since(begun); took < 100*time.Millisecond {
		t.Errorf("a burst and a request took %v; want them to wait", took)
	}
	r.headers(3, get(), true)
	r.until("the answer", endOf(3))
}

// What a flood has left behind is not served when its client has gone, or the
// server wants to be.
func TestFloodThenGone(t *testing.T) {
	for name, leave := range map[string]func(g *rig, r *raw){
		"client": func(_ *rig, r *raw) { r.conn.Close() },
		"server": func(g *rig, _ *raw) { g.closeAll() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startTuned(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Options{},
				func(c *Conn) { c.in.guard.left = 10 })
			r := g.dial(t)
			var b bytes.Buffer
			f := http2.NewFramer(&b, nil)
			for i := range uint32(3000) { // half a minute's worth
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: 2*i + 1, BlockFragment: get(), EndStream: true, EndHeaders: true})
				f.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
			}
			r.conn.Write(b.Bytes())
			leave(g, r)
			gone := time.Now()
			waitFor(t, "the end of the connection", func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return len(g.conns) == 0
			})
			if took := time.Since(gone); took > 8*time.Second {
				t.Errorf("the connection ended after %v", took)
			}
		})
	}
}

// A client that answers each small message with a PING and a WINDOW_UPDATE, as
// gRPC's do, is no flood.
func TestSmallMessages(t *testing.T) {
	noLeaks(t)
	g := startTuned(t, func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			if err != nil {
				return
			}
			w.Write(b[:n])
			w.(http.Flusher).Flush()
		}
	}, Options{}, func(c *Conn) { c.in.guard.left, c.in.guard.maxPauses = 500, 0 })
	r := g.dial(t)
	r.headers(1, request("POST"), false)
	for range 2000 { // faster than time refills
		r.WriteData(1, false, []byte("hello"))
		r.until("the message", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
		r.WriteWindowUpdate(0, 5)
		r.WritePing(false, [8]byte{})
	}
	r.WriteData(1, true, nil)
	r.until("the answer", endOf(1))
}

// Who asked for little in a long time, or for very much, is no flood: neither
// number is too large, also where an int has 32 bits.
func TestLongLived(t *testing.T) {
	for name, lived := range map[string]func(c *Conn){
		"time":    func(c *Conn) { c.in.guard.refilled = time.Now().Add(-time.Hour) },
		"answers": func(c *Conn) { c.earned = math.MaxInt32 },
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			g := startTuned(t, func(w http.ResponseWriter, r *http.Request) {}, Options{}, func(c *Conn) {
				lived(c)
				c.in.guard.left, c.in.guard.maxPauses = 500, 0
			})
			r := g.dial(t)
			r.headers(1, get(), true)
			r.until("the answer", endOf(1))
			for range 500 {
				r.WritePing(false, [8]byte{})
			}
			r.headers(3, get(), true)
			r.until("another", endOf(3))
		})
	}
}

// Floods are slowed down, and ended when they do not stop; another client is
// served meanwhile.
func TestFloods(t *testing.T) {
	noLeaks(t)
	tests := map[string]func(r *raw, i uint32) error{
		"rapid reset": func(r *raw, i uint32) error {
			r.headers(2*i+1, get(), true)
			return r.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		},
		"reset by mistake": func(r *raw, i uint32) error {
			r.headers(2*i+1, get(), true)
			return r.WriteWindowUpdate(2*i+1, 0)
		},
		"unfinished": func(r *raw, i uint32) error { return r.headers(2*i+1, path("PUT", "/early"), false) },
		"malformed":  func(r *raw, i uint32) error { return r.headers(2*i+1, get("A", "b"), true) },
		"settings":   func(r *raw, i uint32) error { return r.WriteSettings(http2.Setting{ID: 4, Val: i}) },
		"ping":       func(r *raw, i uint32) error { return r.WritePing(false, [8]byte{}) },
		"empty data": func(r *raw, i uint32) error {
			if i == 0 {
				r.headers(1, request("POST"), false)
			}
			return r.WriteData(1, false, nil)
		},
		"window": func(r *raw, i uint32) error {
			if i == 0 {
				r.headers(1, get(), true)
			}
			return r.WriteWindowUpdate(1, 1)
		},
		"dribble": func(r *raw, i uint32) error {
			if i == 0 {
				r.setting(http2.SettingInitialWindowSize, 0)
				r.headers(1, path("GET", "/large"), true)
			}
			return r.WriteWindowUpdate(1, 1)
		},
		"priority": func(r *raw, i uint32) error { return r.WritePriority(2*i+1, http2.PriorityParam{}) },
		"unknown":  func(r *raw, i uint32) error { return r.WriteRawFrame(0x77, 0, 0, nil) },
	}
	for name, send := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var served atomic.Int64
			g := startTuned(t, func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				if r.URL.Path == "/early" {
					w.WriteHeader(503)
					return
				}
				if r.URL.Path == "/large" {
					w.Write(make([]byte, 1<<20))
				}
				if r.Method == "POST" || r.URL.Path != "/ok" {
					<-r.Context().Done()
				}
			}, Options{}, func(c *Conn) { c.in.guard.onePause, c.in.guard.maxPauses = time.Millisecond, 10 })
			r := g.dial(t)
			go io.Copy(io.Discard, r.conn)
			var heap runtime.MemStats
			for i := uint32(0); ; i++ {
				if err := send(r, i); err != nil {
					break // ended
				}
				if i%1000 == 0 {
					res, err := g.client.Get(g.url("/ok"))
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
				}
				if i > 1_000_000 {
					t.Fatal("a million and no end")
				}
			}
			runtime.ReadMemStats(&heap)
			if heap.HeapAlloc > 256<<20 {
				t.Errorf("%d MiB in use", heap.HeapAlloc>>20)
			}
		})
	}
}

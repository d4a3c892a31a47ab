package h2

import (
	"net/http"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"detour/engine/lifetime"
)

// What a small request allocates is a budget: all but the values of its fields is
// used again.
func TestAllocations(t *testing.T) {
	if lifetime.Poison {
		t.Skip("the race detector allocates too")
	}
	value := []string{"x"}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Server"] = value
		_, _ = w.Write(kilobyte)
	}, Options{})
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	r.WriteWindowUpdate(0, 1<<30)
	r.SetReuseFrames()
	var buf blockBuffer
	enc := hpack.NewEncoder(&buf)
	id := uint32(1)
	answer := make([]byte, 16<<10)
	round := func() {
		buf = buf[:0]
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: g.addr},
			{Name: ":path", Value: "/small"}, {Name: "user-agent", Value: "bench/1.0"}, {Name: "accept", Value: "*/*"},
		} {
			enc.WriteField(f)
		}
		r.headers(id, buf, true)
		id += 2
		for total := 0; total < 1024; { // the header and 1 KiB come as one record
			n, err := r.conn.Read(answer)
			if err != nil {
				t.Fatal(err)
			}
			total += n
		}
	}
	for range 1000 {
		round()
	}
	const limit = 3 // the values of the request's fields, in one piece; 1 of TLS on each side
	if n := testing.AllocsPerRun(5000, round); n > limit {
		t.Errorf("%v allocations a request; want at most %d", n, limit)
	} else {
		t.Logf("%v allocations a request", n)
	}
}

// An idle connection holds no buffers and no workers.
func TestIdleMemory(t *testing.T) {
	if lifetime.Poison {
		t.Skip("the race detector takes memory too")
	}
	synctest.Test(t, func(t *testing.T) {
		const n = 200
		idle := func() (heap int) {
			conns := make([]*Conn, n)
			for i := range conns {
				r, c := pipe(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(kilobyte) }, Options{})
				r.greet()
				r.headers(1, get(), true)
				r.until("the answer", endOf(1))
				conns[i] = c
			}
			time.Sleep(3 * parkTime) // the workers go
			for _, c := range conns {
				c.mu.Lock()
				if c.workers > 0 {
					t.Errorf("an idle connection has %d workers; want none", c.workers)
				}
				c.mu.Unlock()
			}
			runtime.GC()
			runtime.GC() // empties the pools
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return int(m.HeapAlloc)
		}
		first := idle()        // with what is there once
		const limit = 12 << 10 // some 9 KiB, tables of HPACK and the client's end with them; the smallest buffer would be 8 KiB more
		if got := (idle() - first) / n; got > limit {
			t.Errorf("an idle connection takes %d bytes; want at most %d", got, limit)
		} else {
			t.Logf("an idle connection takes %d bytes, and its stack", got)
		}
	})
}

package h2

import (
	"net/http"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// What a small request allocates is a budget: all but the values of its fields is
// used again.
func TestAllocations(t *testing.T) {
	if poison {
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
	if poison {
		t.Skip("the race detector takes memory too")
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(kilobyte) }, Options{})
	measure := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	const n = 200
	before := measure()
	conns := make([]*raw, n)
	for i := range conns {
		conns[i] = g.dial(t)
		conns[i].headers(1, get(), true)
		conns[i].until("the answer", endOf(1))
	}
	waitFor(t, "the workers to go", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		for c := range g.conns {
			c.mu.Lock()
			workers := c.workers
			c.mu.Unlock()
			if workers > 0 {
				return false
			}
		}
		return true
	})
	time.Sleep(10 * time.Millisecond)
	t.Logf("%.1f KiB an idle connection, with its client", float64(measure()-before)/n/1024)
	runtime.KeepAlive(conns)
}

package h2

import (
	"bytes"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

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

// An idle connection holds no buffers and no workers, nor what was large of its last
// request.
func TestIdleMemory(t *testing.T) {
	if lifetime.Poison {
		t.Skip("the race detector takes memory too")
	}
	large := func(size int) []byte { return get("x-large", strings.Repeat("|", size)) } // has no shorter code
	tests := []struct {
		name  string
		block []byte
		want  string // the status of its answer
	}{
		{"a small request", get(), "200"},
		{"a request in one large frame", large(10 << 10), "200"},
		{"a request in several frames", large(40 << 10), "200"},
		{"a request over the limit", large(100 << 10), "431"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := idleMemory(t, tt.block, tt.want) // with what is there once
				const n, limit = 200, 12 << 10            // some 9 KiB, tables of HPACK and the client's end with them; the smallest buffer would be 8 KiB more
				if got := (idleMemory(t, tt.block, tt.want) - first) / n; got > limit {
					t.Errorf("an idle connection takes %d bytes; want at most %d", got, limit)
				} else {
					t.Logf("an idle connection takes %d bytes, and its stack", got)
				}
			})
		})
	}
}

// idleMemory is the heap with 200 more idle connections, which all asked at once.
func idleMemory(t *testing.T, block []byte, want string) (heap int) {
	var frames bytes.Buffer
	f := http2.NewFramer(&frames, nil)
	first := min(len(block), maxFrame)
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:first], EndStream: true, EndHeaders: first == len(block)})
	for rest := block[first:]; len(rest) > 0; {
		n := min(len(rest), maxFrame)
		_ = f.WriteContinuation(1, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	begin, end := frames.Bytes()[:frames.Len()-10], frames.Bytes()[frames.Len()-10:]

	clients, conns := make([]*raw, 200), make([]*Conn, 200)
	for i := range clients {
		clients[i], conns[i] = pipe(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(kilobyte) }, Options{})
		clients[i].greet()
		_, _ = clients[i].conn.Write(begin)
	}
	for _, r := range clients {
		_, _ = r.conn.Write(end)
		answer := r.until("the answer", func(f http2.Frame) bool { return f.Header().Type == http2.FrameHeaders })
		fields, err := hpack.NewDecoder(tableBytes, nil).DecodeFull(answer.(*http2.HeadersFrame).HeaderBlockFragment())
		if err != nil || fields[0].Value != want {
			t.Fatalf("the answer is %v, %v; want %s", fields, err, want)
		}
		r.until("its end", endOf(1))
	}
	synctest.Wait()
	for _, c := range conns {
		c.mu.Lock()
		if c.working > 0 {
			t.Errorf("an idle connection has %d workers; want none", c.working)
		}
		c.mu.Unlock()
	}
	runtime.GC()
	runtime.GC() // empties the pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

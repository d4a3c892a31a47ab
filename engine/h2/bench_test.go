package h2

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var kilobyte = make([]byte, 1024)

// small is a request like a proxied one: some header fields, a length, 1 KiB.
func small(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	h["Content-Length"] = []string{"1024"}
	h["Cache-Control"] = []string{"no-store"}
	h["Server"] = []string{"bench"}
	w.WriteHeader(200)
	w.Write(kilobyte)
}

// BenchmarkSmall sends small requests, 8 at once on one connection, with a
// client that costs next to nothing: the blocks are made once.
func BenchmarkSmall(b *testing.B) {
	for _, streams := range []int{1, 8} {
		b.Run(fmt.Sprintf("h2-%d", streams), func(b *testing.B) { benchmarkSmall(b, start(b, small, Options{}), streams) })
		b.Run(fmt.Sprintf("nethttp-%d", streams), func(b *testing.B) { benchmarkSmall(b, startOracle(b, small), streams) })
	}
}

type blockBuffer []byte

func (b *blockBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func benchmarkSmall(b *testing.B, g *rig, streams int) {
	r := g.dial(b, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	r.conn.SetDeadline(time.Time{})
	r.WriteWindowUpdate(0, 1<<31-1-65535)
	var buf blockBuffer
	enc := hpack.NewEncoder(&buf)
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: g.addr},
		{Name: ":path", Value: "/small"}, {Name: "user-agent", Value: "bench/1.0"}, {Name: "accept", Value: "*/*"},
		{Name: "accept-encoding", Value: "gzip, br"}, {Name: "accept-language", Value: "en"},
		{Name: "cookie", Value: "session=0123456789abcdef"}, {Name: "referer", Value: "https://example.org/"},
	}
	block := func() []byte {
		buf = buf[:0]
		for _, f := range fields {
			enc.WriteField(f)
		}
		return buf
	}
	id := uint32(1)
	var out blockBuffer
	w := http2.NewFramer(&out, nil)
	round := func() {
		out = out[:0]
		for range streams {
			w.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(), EndStream: true, EndHeaders: true})
			id += 2
		}
		if _, err := r.conn.Write(out); err != nil {
			b.Fatal(err)
		}
		for done := 0; done < streams; {
			f, err := r.ReadFrame()
			if err != nil {
				b.Fatal(err)
			}
			if f.Header().Flags.Has(http2.FlagDataEndStream) && (f.Header().Type == http2.FrameData || f.Header().Type == http2.FrameHeaders) {
				done++
			}
		}
	}
	r.SetReuseFrames()
	round()
	b.ReportAllocs()
	b.ResetTimer()
	before := cpuTime()
	for n := 0; n < b.N; n += streams {
		round()
	}
	b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDownload is one long answer.
func BenchmarkDownload(b *testing.B) {
	piece := make([]byte, 64<<10)
	h := func(w http.ResponseWriter, r *http.Request) {
		for range 64 << 20 / len(piece) {
			w.Write(piece)
		}
	}
	for name, start := range map[string]func() *rig{
		"h2":      func() *rig { return start(b, h, Options{}) },
		"nethttp": func() *rig { return startOracle(b, h) },
	} {
		b.Run(name, func(b *testing.B) {
			g := start()
			b.SetBytes(64 << 20)
			before := cpuTime()
			for range b.N {
				res, err := g.client.Get(g.url("/"))
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			b.ReportMetric(float64((cpuTime()-before).Milliseconds())/float64(b.N)*16, "cpu-ms/GiB")
		})
	}
}

// BenchmarkUpload is one long request body.
func BenchmarkUpload(b *testing.B) {
	h := func(w http.ResponseWriter, r *http.Request) {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 64<<10))
	}
	for name, start := range map[string]func() *rig{
		"h2":      func() *rig { return start(b, h, Options{}) },
		"nethttp": func() *rig { return startOracle(b, h) },
	} {
		b.Run(name, func(b *testing.B) {
			g := start()
			b.SetBytes(64 << 20)
			before := cpuTime()
			for range b.N {
				res, err := g.client.Post(g.url("/"), "", io.LimitReader(zeros{}, 64<<20))
				if err != nil {
					b.Fatal(err)
				}
				res.Body.Close()
			}
			b.ReportMetric(float64((cpuTime()-before).Milliseconds())/float64(b.N)*16, "cpu-ms/GiB")
		})
	}
}

// BenchmarkServer is the CPU time of the server alone: h2load is a process of
// its own. Say -cpu 1 for a figure without the scheduler's search for work.
func BenchmarkServer(b *testing.B) {
	if _, err := exec.LookPath("h2load"); err != nil {
		b.Skip("h2load is not installed (nghttp2-client)")
	}
	megabytes := func(w http.ResponseWriter, r *http.Request) {
		piece := make([]byte, 64<<10)
		for range 64 {
			w.Write(piece)
		}
	}
	loads := []struct {
		name, conns, streams string
		h                    http.HandlerFunc
	}{{"8x8", "8", "8", small}, {"64x1", "64", "1", small}, {"4MiB", "2", "1", megabytes}}
	for _, load := range loads {
		for _, name := range []string{"h2", "nethttp"} {
			b.Run(load.name+"/"+name, func(b *testing.B) {
				var g *rig
				if name == "h2" {
					g = start(b, load.h, Options{})
				} else {
					g = startOracle(b, load.h)
				}
				run := func(n int) {
					out, err := exec.Command("h2load", "-n", fmt.Sprint(n), "-c", load.conns, "-m", load.streams, "-w", "24", "-W", "26", g.url("/")).CombinedOutput()
					if err != nil || !bytes.Contains(out, []byte(" 0 failed")) {
						b.Fatalf("%v\n%s", err, out)
					}
				}
				run(64) // the handshakes' share is in both
				before := cpuTime()
				run(max(b.N, 64))
				b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(max(b.N, 64)), "server-cpu-ns/op")
			})
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// BenchmarkParallel has several of net/http's clients at it.
func BenchmarkParallel(b *testing.B) {
	for name, start := range map[string]func() *rig{
		"h2":      func() *rig { return start(b, small, Options{}) },
		"nethttp": func() *rig { return startOracle(b, small) },
	} {
		b.Run(name, func(b *testing.B) {
			g := start()
			b.ReportAllocs()
			var wg sync.WaitGroup
			before := cpuTime()
			for range 8 {
				wg.Go(func() {
					for range b.N / 8 {
						res, err := g.client.Get(g.url("/"))
						if err != nil {
							b.Error(err)
							return
						}
						io.Copy(io.Discard, res.Body)
						res.Body.Close()
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkDecode is the header block of a request like the one before it: of one
// connection, and of so many in turn that the caches have forgotten each.
func BenchmarkDecode(b *testing.B) {
	var first, again blockBuffer
	var out blockBuffer
	enc := hpack.NewEncoder(&out)
	for _, into := range []*blockBuffer{&first, &again} {
		out = nil
		for _, f := range []hpack.HeaderField{
			{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "example.org"},
			{Name: ":path", Value: "/small"}, {Name: "user-agent", Value: "bench/1.0"}, {Name: "accept", Value: "*/*"},
			{Name: "accept-encoding", Value: "gzip, br"}, {Name: "accept-language", Value: "en"},
			{Name: "cookie", Value: "session=0123456789abcdef"}, {Name: "referer", Value: "https://example.org/"},
		} {
			enc.WriteField(f)
		}
		*into = out
	}
	for _, conns := range []int{1, 4096} {
		b.Run(fmt.Sprint(conns), func(b *testing.B) {
			heads := make([]head, conns)
			for i := range heads {
				heads[i].init(64 << 10)
				heads[i].begin(1, true)
				if err := heads[i].write(first, true); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				h := &heads[n%conns]
				h.begin(1, true)
				if err := h.write(again, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"detour/engine/wire"
)

// benchAnswer is a usual small answer.
var benchAnswer = []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 22 Nov 2025 13:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 1024\r\nConnection: keep-alive\r\nETag: \"5f3e-61\"\r\nCache-Control: max-age=60\r\nVary: Accept-Encoding\r\n\r\n" + strings.Repeat("x", 1024))

// benchUpstream answers each request head with benchAnswer, at the least cost;
// bodies of length bytes follow the heads.
func benchUpstream(tb testing.TB, length int) string {
	ln := listen(tb)
	go serveBench(ln, length)
	return ln.Addr().String()
}

func serveBench(ln net.Listener, length int) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			r := bufio.NewReaderSize(conn, 64<<10)
			for {
				line, err := r.ReadSlice('\n')
				if err != nil {
					return
				}
				if len(line) == 2 {
					r.Discard(length)
					conn.Write(benchAnswer)
				}
			}
		}()
	}
}

func benchHeader() http.Header {
	return http.Header{
		"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}, "Accept": {"text/html,application/xhtml+xml"},
		"Accept-Language": {"en-US,en;q=0.5"}, "Accept-Encoding": {"gzip, deflate, br, zstd"}, "Cookie": {"session=0123456789abcdef"},
		"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"blog.example.org"}, "Via": {"1.1 detour"},
	}
}

// The upstream is a process of its own, so that cpu-ns is what the client costs.
func TestMain(m *testing.M) {
	if length := os.Getenv("BENCH_UPSTREAM"); length != "" {
		n, _ := strconv.Atoi(length)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(ln.Addr())
		go serveBench(ln, n)
		io.Copy(io.Discard, os.Stdin) // until the benchmark ends
		return
	}
	os.Exit(m.Run())
}

func benchProcess(b *testing.B, length int) string {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BENCH_UPSTREAM="+strconv.Itoa(length))
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(addr)
}

// BenchmarkFloor is a write and a read, as any exchange needs them.
func BenchmarkFloor(b *testing.B) {
	conn, err := net.Dial("tcp", benchProcess(b, 0))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	head, _ := appendHead(nil, &http.Request{Host: "a.example", URL: &url.URL{Path: "/"}, Header: benchHeader()})
	buf := make([]byte, 64<<10)
	before := cpuTime()
	for b.Loop() {
		conn.Write(head)
		if _, err := io.ReadFull(conn, buf[:len(benchAnswer)]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range transports {
		for _, body := range []string{"", strings.Repeat("b", 1000)} {
			name := kind.name + "/GET"
			if body != "" {
				name = kind.name + "/POST"
			}
			b.Run(name, func(b *testing.B) {
				addr := benchProcess(b, len(body))
				rt := kind.make(b, addr, nil)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				header := benchHeader()
				buf := make([]byte, 64<<10)
				b.ReportAllocs()
				before := cpuTime()
				get := request(b, http.MethodGet, addr, nil).WithContext(ctx)
				get.Header = header
				for b.Loop() {
					req := get
					if body != "" {
						req = get.WithContext(ctx)
						req.Method, req.Body, req.ContentLength = "POST", io.NopCloser(strings.NewReader(body)), int64(len(body))
					}
					res, err := rt.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					for err == nil {
						_, err = res.Body.Read(buf)
					}
					if err != io.EOF {
						b.Fatal(err)
					}
					res.Body.Close()
				}
				b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func dialer(addr string) func(ctx context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "tcp", addr)
	}
}

// BenchmarkConcurrent is as a gateway works: many requests at once.
func BenchmarkConcurrent(b *testing.B) {
	for _, kind := range transports {
		b.Run(kind.name, func(b *testing.B) {
			addr := benchProcess(b, 0)
			rt := kind.make(b, addr, &Options{ResponseTimeout: 20 * time.Second, IdleTimeout: 2 * time.Minute, MaxIdle: 64})
			header := benchHeader()
			b.ReportAllocs()
			b.SetParallelism(64 / runtime.GOMAXPROCS(0))
			before := cpuTime()
			b.RunParallel(func(pb *testing.PB) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				buf := make([]byte, 64<<10)
				req := request(b, http.MethodGet, addr, nil).WithContext(ctx)
				req.Header = header
				for pb.Next() {
					res, err := rt.RoundTrip(req)
					for err == nil {
						_, err = res.Body.Read(buf)
					}
					if err != io.EOF {
						b.Error(err)
						return
					}
					res.Body.Close()
				}
			})
			b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

func BenchmarkDownload(b *testing.B) {
	const size = 16 << 20
	piece := strings.Repeat("x", 16<<10)
	for _, framing := range []string{"length", "chunked"} {
		for _, kind := range transports {
			b.Run(framing+"/"+kind.name, func(b *testing.B) {
				addr := upstream(b, func(c net.Conn, r *bufio.Reader) {
					for {
						if _, err := http.ReadRequest(r); err != nil {
							return
						}
						if framing == "length" {
							fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
							for range size / len(piece) {
								io.WriteString(c, piece)
							}
							continue
						}
						io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
						for range size / len(piece) {
							io.WriteString(c, "4000\r\n"+piece+"\r\n")
						}
						io.WriteString(c, "0\r\n\r\n")
					}
				})
				rt := kind.make(b, addr, nil)
				req := request(b, http.MethodGet, addr, nil)
				buf := make([]byte, 64<<10)
				b.SetBytes(size)
				before := cpuTime()
				for b.Loop() {
					res, err := rt.RoundTrip(req)
					for err == nil {
						_, err = res.Body.Read(buf)
					}
					if err != io.EOF {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

func BenchmarkUpload(b *testing.B) {
	const size = 16 << 20
	for _, length := range []int64{size, -1} {
		for _, kind := range transports {
			b.Run(fmt.Sprintf("length=%d/%s", length, kind.name), func(b *testing.B) {
				addr := upstream(b, func(c net.Conn, r *bufio.Reader) {
					for buf := make([]byte, 256<<10); ; {
						req, err := http.ReadRequest(r)
						if err != nil {
							return
						}
						io.CopyBuffer(struct{ io.Writer }{io.Discard}, req.Body, buf)
						c.Write(benchAnswer)
					}
				})
				rt := kind.make(b, addr, nil)
				b.SetBytes(size)
				before := cpuTime()
				for b.Loop() {
					// A TLS record at once, as a server reads it.
					req := request(b, http.MethodPost, addr, &stepReader{io.LimitReader(zeros{}, size), 16 << 10})
					req.ContentLength = length
					res, err := rt.RoundTrip(req)
					if err != nil {
						b.Fatal(err)
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				b.ReportMetric(float64(cpuTime()-before)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func BenchmarkAppendHead(b *testing.B) {
	req := &http.Request{Host: "blog.example.org", URL: &url.URL{Opaque: "/index.html", RawQuery: "a=b"}, Header: benchHeader()}
	buf := make([]byte, 0, bufferSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := appendHead(buf, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMakeHeader(b *testing.B) {
	block := benchAnswer[: bytes.Index(benchAnswer, []byte("\r\n\r\n"))+4 : cap(benchAnswer)]
	var fields []wire.Field
	if _, err := wire.ParseResponse(block, &fields); err != nil {
		b.Fatal(err)
	}
	text := string(block)
	header := make(http.Header)
	b.ReportAllocs()
	for b.Loop() {
		clear(header)
		makeHeader(header, text, block, fields)
	}
}

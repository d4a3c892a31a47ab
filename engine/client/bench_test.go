package client

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// benchAnswer is a usual small answer.
var benchAnswer = []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 22 Nov 2025 13:00:00 GMT\r\nContent-Type: text/html; charset=utf-8\r\n" +
	"Content-Length: 1024\r\nConnection: keep-alive\r\nETag: \"5f3e-61\"\r\nCache-Control: max-age=60\r\nVary: Accept-Encoding\r\n\r\n" + strings.Repeat("x", 1024))

// benchUpstream answers each request head with benchAnswer, at the least cost;
// bodies of length bytes follow the heads.
func benchUpstream(tb testing.TB, length int) string {
	ln := listen(tb)
	go func() {
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
	}()
	return ln.Addr().String()
}

func benchHeader() http.Header {
	return http.Header{
		"User-Agent": {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"}, "Accept": {"text/html,application/xhtml+xml"},
		"Accept-Language": {"en-US,en;q=0.5"}, "Accept-Encoding": {"gzip, deflate, br, zstd"}, "Cookie": {"session=0123456789abcdef"},
		"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"blog.example.org"}, "Via": {"1.1 detour"},
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	for _, kind := range transports {
		for _, body := range []string{"", strings.Repeat("b", 1000)} {
			name := kind.name + "/GET"
			if body != "" {
				name = kind.name + "/POST"
			}
			b.Run(name, func(b *testing.B) {
				addr := benchUpstream(b, len(body))
				rt := kind.make(b, addr, nil)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				header := benchHeader()
				buf := make([]byte, 64<<10)
				b.ReportAllocs()
				before := cpuTime()
				for b.Loop() {
					req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/", nil)
					if body != "" {
						req.Method, req.Body, req.ContentLength = "POST", io.NopCloser(strings.NewReader(body)), int64(len(body))
					}
					req.Header = header
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

package server_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour/engine/lifetime"
	"detour/engine/server"
)

const browserHead = "GET /assets/app.js?v=42 HTTP/1.1\r\nHost: " + name + "\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n" +
	"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\nReferer: https://blog.example.org/\r\n" +
	"Connection: keep-alive\r\nCookie: session=0123456789abcdef\r\nSec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n"

// scripted is a connection whose client sends n heads, each after the answer
// before: no sockets, so what is measured is the server alone.
type scripted struct {
	net.Conn
	head  string
	left  int
	at    int
	ended chan struct{}
}

func (c *scripted) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.head[c.at:])
	if c.at += n; c.at == len(c.head) {
		c.at = 0
		c.left--
	}
	return n, nil
}

func (c *scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (c *scripted) Close() error                     { close(c.ended); return nil }
func (c *scripted) SetDeadline(time.Time) error      { return nil }
func (c *scripted) SetReadDeadline(time.Time) error  { return nil }
func (c *scripted) SetWriteDeadline(time.Time) error { return nil }
func (c *scripted) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c *scripted) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }

// once is a listener with one connection.
type once struct{ conns chan net.Conn }

func (l once) Accept() (net.Conn, error) {
	if c, ok := <-l.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (l once) Close() error   { return nil }
func (l once) Addr() net.Addr { return &net.TCPAddr{} }

// what is served in benchmarks.
var served = map[string]http.HandlerFunc{
	"redirect": func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Location"] = []string{"https://status.example.org/"}
		w.WriteHeader(http.StatusFound)
	},
	"1KiB": func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h["Content-Type"] = []string{"text/html"}
		h["Content-Length"] = []string{"1024"}
		h["Cache-Control"] = []string{"no-store"}
		h["Etag"] = []string{`"0123"`}
		w.Write(kib)
	},
	"1KiB asked": func(w http.ResponseWriter, r *http.Request) {
		<-ready
		select { // as a proxy does
		case <-r.Context().Done():
		default:
		}
		w.Header()["Content-Length"] = []string{"1024"}
		w.Write(kib)
	},
}

var (
	kib   = []byte(strings.Repeat("x", 1024))
	ready = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
)

type serverLike interface {
	Serve(net.Listener) error
	Close() error
}

func contestants(h http.Handler, conf *tls.Config) map[string]serverLike {
	return map[string]serverLike{
		"ours": server.New(server.Options{Handler: h, TLS: conf}),
		"std":  &http.Server{Handler: h, TLSConfig: conf, IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)},
	}
}

// BenchmarkServer is a request without its system calls and TLS.
func BenchmarkServer(b *testing.B) {
	for kind, h := range served {
		for who, s := range contestants(h, nil) {
			b.Run(kind+"/"+who, func(b *testing.B) {
				b.ReportAllocs()
				l := once{make(chan net.Conn, 1)}
				c := &scripted{head: browserHead, left: b.N, ended: make(chan struct{})}
				l.conns <- c
				b.ResetTimer()
				go s.Serve(l)
				<-c.ended
				b.StopTimer()
				close(l.conns)
			})
		}
	}
}

// BenchmarkTLS is requests on loopback over TLS; cpu-µs is what the process,
// client included, spends on one.
func BenchmarkTLS(b *testing.B) {
	for kind, h := range served {
		for who, s := range contestants(h, serverTLS()) {
			b.Run(kind+"/"+who, func(b *testing.B) {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				if who == "std" {
					l2 := tls.NewListener(l, &tls.Config{Certificates: serverTLS().Certificates, NextProtos: []string{"http/1.1"}})
					go s.Serve(l2)
				} else {
					go s.Serve(l)
				}
				defer l.Close()
				c, err := tls.Dial("tcp", l.Addr().String(), clientTLS())
				if err != nil {
					b.Fatal(err)
				}
				defer c.Close()
				br := bufio.NewReaderSize(c, 16<<10)
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu()
				for range b.N {
					io.WriteString(c, browserHead)
					skipAnswer(b, br)
				}
				b.ReportMetric(float64(cpu()-before)/float64(b.N)/1e3, "cpu-µs/op")
			})
		}
	}
}

// skipAnswer reads an answer without allocating.
func skipAnswer(b *testing.B, br *bufio.Reader) {
	length := 0
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			b.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
		if strings.HasPrefix(string(line[:min(len(line), 16)]), "Content-Length: ") {
			length, _ = strconv.Atoi(strings.TrimSpace(string(line[16:])))
		}
	}
	br.Discard(length)
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestAllocations holds what a request costs in memory: more is a decision to
// be made here. Its head is one string, the values of its header one slice.
func TestAllocations(t *testing.T) {
	if lifetime.Poison {
		t.Skip("under the race detector nothing is used again")
	}
	abort := func() {}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    float64
	}{
		{"nothing", func(http.ResponseWriter, *http.Request) {}, 2},
		{"header", func(w http.ResponseWriter, _ *http.Request) { w.Header()["Date"] = nil }, 2},
		{"text", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "text") }, 2},
		{"watched", func(_ http.ResponseWriter, r *http.Request) {
			stop := r.Context().(interface{ AfterFunc(func()) func() bool }).AfterFunc(abort)
			stop()
		}, 2},
		{"context", func(_ http.ResponseWriter, r *http.Request) { r.Context().Done() }, 16}, // it may be kept: nothing is used again
	}
	for _, tt := range tests {
		const n = 2000
		s := server.New(server.Options{Handler: tt.handler})
		l := once{make(chan net.Conn, 1)}
		c := &scripted{head: browserHead, left: n, ended: make(chan struct{})}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l.conns <- c
		go s.Serve(l)
		<-c.ended
		runtime.ReadMemStats(&after)
		close(l.conns)
		if got := float64(after.Mallocs-before.Mallocs) / n; got > tt.want+0.3 { // for pools and the connection itself
			t.Errorf("%s: %.1f allocations a request; want %v", tt.name, got, tt.want)
		}
	}
}

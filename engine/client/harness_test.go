package client

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// transportKind is a way to exchange: ours, and the one it is held to.
type transportKind struct {
	name string
	make func(tb testing.TB, addr string, o *Options) http.RoundTripper
}

var transports = []transportKind{{"client", newClient}, {"net/http", newNetHTTP}}

// defaults are generous for slow machines.
func defaults() *Options {
	return &Options{ResponseTimeout: 20 * time.Second, ContinueTimeout: time.Second, IdleTimeout: 2 * time.Minute, MaxIdle: 32}
}

func newClient(tb testing.TB, addr string, o *Options) http.RoundTripper {
	if o == nil {
		o = defaults()
	}
	if o.Dial == nil {
		o.Dial = dialer(addr)
	}
	t := New(*o)
	tb.Cleanup(t.CloseIdleConnections)
	return t
}

func newNetHTTP(tb testing.TB, addr string, o *Options) http.RoundTripper {
	if o == nil {
		o = defaults()
	}
	dial := o.Dial
	if dial == nil {
		dial = dialer(addr)
	}
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		DisableCompression:     true,
		MaxIdleConnsPerHost:    o.MaxIdle,
		IdleConnTimeout:        o.IdleTimeout,
		ResponseHeaderTimeout:  o.ResponseTimeout,
		ExpectContinueTimeout:  o.ContinueTimeout,
		MaxResponseHeaderBytes: int64(o.HeadLimit),
	}
	tb.Cleanup(t.CloseIdleConnections)
	return t
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	return ln
}

// upstream accepts connections until the test ends and gives each to serve,
// which closes when it returns. It returns the address.
func upstream(tb testing.TB, serve func(c net.Conn, r *bufio.Reader)) string {
	tb.Helper()
	ln := listen(tb)
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			running.Go(func() {
				serve(c, bufio.NewReader(c))
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	tb.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// eventually waits until ok, which is asked again and again.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("no %s within 10 s", what)
		}
	}
}

// noLeaks checks, when the test and its clean-ups are over, that goroutines and
// descriptors are as many as before. Call it first.
func noLeaks(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		eventually(t, "end of all goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
		eventually(t, "end of all descriptors", func() bool { return openFiles(t) <= files })
	})
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc: ", err)
	}
	return len(entries)
}

// cpuTime is what this process, upstreams included, has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

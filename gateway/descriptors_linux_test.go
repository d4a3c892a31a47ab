package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"detour/control"
)

// TestServerWithFewDescriptors opens 5,000 connections to a server that may
// have 200, and wants it to serve again as soon as they are gone.
func TestServerWithFewDescriptors(t *testing.T) {
	const child = "DETOUR_TEST_FEW_DESCRIPTORS"
	if os.Getenv(child) != "" {
		serveWithFewDescriptors(t)
		return
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur < 6000 {
		t.Skipf("this process may open %d files (%v); the test needs 6000", limit.Cur, err)
	}
	out, _ := inChild(t, child)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{addr: strings.TrimSpace(line)}

	var mu sync.Mutex
	var open []net.Conn
	var dials sync.WaitGroup
	for range 50 {
		dials.Go(func() {
			for range 100 {
				// When the kernel's queue is full a dial just hangs.
				c, err := net.DialTimeout("tcp", s.addr, 100*time.Millisecond)
				if err != nil {
					continue
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	dials.Wait()
	if len(open) < 1000 {
		t.Errorf("only %d connections came about; want far more than the server may have", len(open))
	}
	for _, c := range open {
		c.Close()
	}
	start := time.Now()
	c := s.client(t, "h1")
	c.Transport.(*http.Transport).TLSClientConfig.InsecureSkipVerify = true // the other process made its own certificate
	res, err := c.Get("https://" + name + "/")
	if err != nil {
		t.Fatalf("after the flood of %d connections: %v", len(open), err)
	}
	res.Body.Close()
	if took := time.Since(start); took > 8*time.Second { // less than the silent ones are given
		t.Errorf("served %v after the flood of %d connections", took, len(open))
	}
}

// inChild runs this test in a process of its own, with variable set, until the end
// of its test.
func inChild(t *testing.T, variable string) (out *bufio.Reader, in io.Writer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-engine="+*engine)
	cmd.Env = append(os.Environ(), variable+"=1")
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out = bufio.NewReader(stdout)
	t.Cleanup(func() {
		stdin.Close() // the child ends with it
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v\n%s", err, rest)
		}
	})
	return out, stdin
}

// allowFew has this process open 200 files at most.
func allowFew(t *testing.T) {
	t.Helper()
	few := syscall.Rlimit{Cur: 200, Max: 200}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
}

// Clients leave descriptors for upstreams, logs and the configuration, or a flood
// could not be ended by a lower limit.
func TestReloadWithFewDescriptors(t *testing.T) {
	const child = "DETOUR_TEST_RELOAD_WITH_FEW"
	if os.Getenv(child) != "" {
		reloadWithFewDescriptors(t)
		return
	}
	out, in := inChild(t, child)
	var asked atomic.Int32
	release := make(chan struct{})
	silent := upstream(t, func(http.ResponseWriter, *http.Request) { asked.Add(1); <-release })
	t.Cleanup(func() { close(release) })
	fmt.Fprintln(in, silent)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var clients sync.WaitGroup
	defer clients.Wait()
	for range 300 {
		raw, err := net.DialTimeout("tcp", strings.TrimSpace(line), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Client(raw, &tls.Config{ServerName: "shop.example.test", InsecureSkipVerify: true})
		clients.Go(func() { io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop.example.test\r\n\r\n") })
		defer raw.Close()
	}
	eventually(t, "60 requests", func() bool { return asked.Load() >= 60 })
	fmt.Fprintln(in, "flooded")
	if line, err = out.ReadString('\n'); line != "reloaded\n" {
		t.Errorf("%q, %v; want it reloaded", line, err)
	}
}

// So do requests: one connection of a client may have many.
func TestReloadWithManyStreams(t *testing.T) {
	const child = "DETOUR_TEST_RELOAD_WITH_STREAMS"
	if os.Getenv(child) != "" {
		reloadWithFewDescriptors(t)
		return
	}
	out, in := inChild(t, child)
	var asked atomic.Int32
	silent := upstream(t, func(_ http.ResponseWriter, r *http.Request) { asked.Add(1); <-r.Context().Done() })
	fmt.Fprintln(in, silent)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var answers sync.WaitGroup
	defer answers.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 3 {
		c := http2Connection(t, strings.TrimSpace(line))
		for range 90 {
			answers.Go(func() {
				for ctx.Err() == nil { // a stubborn client
					req, _ := http.NewRequestWithContext(ctx, "GET", "https://shop.example.test/", nil)
					if res, err := c.RoundTrip(req); err == nil {
						res.Body.Close()
					}
				}
			})
		}
	}
	eventually(t, "150 requests", func() bool { return asked.Load() >= 150 })
	for range 60 { // which take what is left
		c, err := net.DialTimeout("tcp", strings.TrimSpace(line), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	fmt.Fprintln(in, "flooded")
	if line, err = out.ReadString('\n'); line != "reloaded\n" {
		t.Errorf("%q, %v; want it reloaded", line, err)
	}
}

// http2Connection is one connection to address, for any number of requests.
func http2Connection(t *testing.T, address string) http.RoundTripper {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	tr := &http.Transport{Protocols: protocols, TLSClientConfig: &tls.Config{ServerName: "shop.example.test", InsecureSkipVerify: true}}
	c, err := tr.NewClientConn(t.Context(), "https", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func reloadWithFewDescriptors(t *testing.T) {
	allowFew(t)
	in := bufio.NewReader(os.Stdin)
	silent, _ := in.ReadString('\n')
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q, online = true }\n", strings.TrimSpace(silent)))
	fmt.Println(r.HTTPSAddr())
	in.ReadString('\n')
	eventually(t, "the flood", func() bool {
		log := r.process.String()
		return strings.Contains(log, "too many open files") || strings.Contains(log, "all allowed connections are open")
	})
	if report := r.Reload(control.ReloadOptions{}); report.Problems != nil {
		t.Errorf("refused: %v", report.Problems)
		return
	}
	fmt.Println("reloaded")
	io.Copy(io.Discard, in)
}

// Clients take half of a small machine's memory at most, besides the budget.
func TestServerWithLittleMemory(t *testing.T) {
	const child = "DETOUR_TEST_LITTLE_MEMORY"
	if os.Getenv(child) != "" {
		debug.SetMemoryLimit(12 << 20) // 30 clients
		r := start(t, "[hosts]\nshop = { upstream = \"127.0.0.1:1\", online = true }\n")
		fmt.Println(r.HTTPSAddr())
		eventually(t, "the limit", func() bool { return strings.Contains(r.process.String(), `"limit":30`) })
		fmt.Println("full")
		io.Copy(io.Discard, os.Stdin)
		return
	}
	out, _ := inChild(t, child)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	for range 250 {
		c, err := net.DialTimeout("tcp", strings.TrimSpace(line), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if line, err = out.ReadString('\n'); line != "full\n" {
		t.Errorf("%q, %v; want no more than 30 clients let in", line, err)
	}
}

func serveWithFewDescriptors(t *testing.T) {
	allowFew(t)
	s := serve(t, http.HandlerFunc(describe), nil)
	fmt.Println(s.addr)
	io.Copy(io.Discard, os.Stdin)
	if !strings.Contains(s.log.String(), "too many open files") {
		t.Error("the limit was never reached")
	}
}

// A peer that vanished is noticed by TCP keep-alive.
func TestServerKeepsAlive(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn, 1)
	s := serveOn(t, tapped{l, accepted}, http.HandlerFunc(describe), nil)
	s.dial(t, "h2")
	raw, err := (<-accepted).(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		on, _ := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		idle, _ := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
		if on != 1 || idle != 15 {
			t.Errorf("SO_KEEPALIVE = %d, TCP_KEEPIDLE = %d; want 1, 15", on, idle)
		}
	})
}

// tapped is a listener that shows what it accepts.
type tapped struct {
	net.Listener
	accepted chan net.Conn
}

func (l tapped) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.accepted <- c
	}
	return c, err
}

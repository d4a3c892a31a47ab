package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
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
	cmd := exec.Command(os.Args[0], "-test.run=^TestServerWithFewDescriptors$")
	cmd.Env = append(os.Environ(), child+"=1")
	stdin, _ := cmd.StdinPipe()
	stdout, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close() // the child ends with it
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	}()
	line, err := bufio.NewReader(stdout).ReadString('\n')
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

func serveWithFewDescriptors(t *testing.T) {
	few := syscall.Rlimit{Cur: 200, Max: 200}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
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

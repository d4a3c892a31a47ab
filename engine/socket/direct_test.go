//go:build unix

package socket

import (
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"detour/engine/lifetime"
)

// pair returns two ends of a connection, as package net made them.
func pair(t testing.TB, network, address string) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		a.Close()
		t.Fatal(err)
	}
	return a, b
}

func TestBehavesAsNet(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			nettest.TestConn(t, func() (a, b net.Conn, stop func(), err error) {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = filepath.Join(t.TempDir(), "s")
				}
				a, b = pair(t, network, address)
				a, b = Direct(a), Direct(b)
				return a, b, func() { a.Close(); b.Close() }, nil
			})
		})
	}
}

// What a failure says, and of what kind it is, must not depend on how the
// connection is read.
func TestErrorsAreNets(t *testing.T) {
	past := func(c net.Conn) {
		if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	for _, x := range []struct {
		name   string
		before func(c, other net.Conn)
	}{
		{"deadline", func(c, _ net.Conn) { past(c) }},
		{"closed", func(c, _ net.Conn) { c.Close() }},
		{"reset", func(_, other net.Conn) { _ = other.(*net.TCPConn).SetLinger(0); other.Close() }},
		{"end", func(_, other net.Conn) { other.Close() }},
	} {
		t.Run(x.name, func(t *testing.T) {
			fail := func(wrap func(net.Conn) net.Conn) (read, write error) {
				c, other := pair(t, "tcp", "127.0.0.1:0")
				c = wrap(c)
				defer c.Close()
				defer other.Close()
				x.before(c, other)
				_, read = c.Read(make([]byte, 1))
				for write == nil && x.name != "end" {
					_, write = c.Write(make([]byte, 1))
				}
				return read, write
			}
			read, write := fail(Direct)
			wantRead, wantWrite := fail(func(c net.Conn) net.Conn { return c })
			same(t, "Read", read, wantRead)
			same(t, "Write", write, wantWrite)
		})
	}
}

// same compares all but the ports.
func same(t *testing.T, what string, got, want error) {
	t.Helper()
	var g, w *net.OpError
	if !errors.As(want, &w) {
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
		return
	}
	if !errors.As(got, &g) {
		t.Fatalf("%s: %T %v, want %v", what, got, got, want)
	}
	if g.Op != w.Op || g.Net != w.Net || (g.Source == nil) != (w.Source == nil) || g.Addr == nil || !reflect.DeepEqual(g.Err, w.Err) || g.Timeout() != w.Timeout() {
		t.Errorf("%s: %#v, want %#v", what, g, w)
	}
}

func TestLeavesOthersAlone(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Direct(a) != a {
		t.Error("a pipe was wrapped: it has no socket")
	}
	c, d := pair(t, "tcp", "127.0.0.1:0")
	defer d.Close()
	defer c.Close()
	if own := (struct{ *net.TCPConn }{c.(*net.TCPConn)}); Direct(own) != own {
		t.Error("a type that embeds *net.TCPConn was wrapped: its own Read would be passed over")
	}
}

func TestLinger(t *testing.T) {
	a, b := pair(t, "tcp", "127.0.0.1:0")
	defer a.Close()
	if err := Direct(b).(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read: %v, want a reset", err)
	}
}

func TestNoAllocations(t *testing.T) {
	if lifetime.Poison {
		t.Skip("the race detector allocates")
	}
	a, b := pair(t, "tcp", "127.0.0.1:0")
	a, b = Direct(a), Direct(b)
	defer a.Close()
	defer b.Close()
	p := make([]byte, 1)
	if n := testing.AllocsPerRun(100, func() { exchange(t, a, b, p) }); n > 0 {
		t.Errorf("a Write and a Read allocate %v times", n)
	}
}

func exchange(t testing.TB, a, b net.Conn, p []byte) {
	if _, err := a.Write(p); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(p); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkExchange(b *testing.B) {
	for name, wrap := range map[string]func(net.Conn) net.Conn{"direct": Direct, "net": func(c net.Conn) net.Conn { return c }} {
		b.Run(name, func(b *testing.B) {
			c, d := pair(b, "tcp", "127.0.0.1:0")
			defer c.Close()
			defer d.Close()
			c, d = wrap(c), wrap(d)
			p := make([]byte, 1<<10)
			for b.Loop() {
				exchange(b, c, d, p)
			}
		})
	}
}

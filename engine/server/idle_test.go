package server_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour/engine/accept"
	"detour/engine/server"
	"detour/engine/socket"
)

// limitedTo has a server bound its connections.
func limitedTo(n int) func(o *server.Options) {
	return func(o *server.Options) {
		o.Limiter = new(accept.Limiter)
		o.Limiter.SetMax(n)
	}
}

func yes(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "yes") }

// A connection that is told to end when the first byte of a request was read, but
// nobody knows yet, serves that request.
func TestEndIdleComesTooLate(t *testing.T) {
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	late := &lateConn{read: make(chan struct{}), told: make(chan struct{})}
	s := serveOn(t, &lateListener{Listener: l, first: late}, http.HandlerFunc(yes), limitedTo(1))
	first := s.dial(t)
	br := bufio.NewReader(first)
	io.WriteString(first, get)
	answer(t, br, "GET")
	late.armed.Store(true)
	io.WriteString(first, get)
	<-late.read
	second := s.dial(t)
	io.WriteString(second, get)
	if _, got := answer(t, br, "GET"); got != "yes" {
		t.Errorf("the request that came in between got %q", got)
	}
	if _, got := answer(t, bufio.NewReader(second), "GET"); got != "yes" {
		t.Errorf("who waited for room got %q", got)
	}
	if b, err := io.ReadAll(br); err != nil || len(b) > 0 {
		t.Errorf("idle again: %q, %v; want the end", b, err)
	}
}

type lateListener struct {
	net.Listener
	first *lateConn
	taken bool
}

func (l *lateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.taken {
		return c, err
	}
	l.taken, l.first.Conn = true, c
	return l.first, nil
}

// lateConn, once armed, does not return what it has read before it is told to end.
type lateConn struct {
	net.Conn
	armed atomic.Bool
	read  chan struct{}
	told  chan struct{}
	once  sync.Once
}

func (c *lateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && c.armed.CompareAndSwap(true, false) {
		close(c.read)
		<-c.told
	}
	return n, err
}

func (c *lateConn) SetReadDeadline(t time.Time) error {
	err := c.Conn.SetReadDeadline(t)
	if t.Unix() == 1 {
		c.once.Do(func() { close(c.told) })
	}
	return err
}

// A connection whose next request is there, and only not read yet, is not idle.
func TestRequestInKernelIsNotIdle(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux says what there is to be read")
	}
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	slow := &heldConn{goOn: make(chan struct{})}
	s := serveOn(t, &heldListener{l, slow}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		slow.held.Store(true)
		yes(w, r)
	}), limitedTo(1))
	first := s.dial(t)
	br := bufio.NewReader(first)
	io.WriteString(first, get)
	answer(t, br, "GET")
	io.WriteString(first, get)
	eventually(t, "the request", func() bool { return socket.Busy(slow) })
	second := s.dial(t)
	io.WriteString(second, get)
	eventually(t, "a look for room", func() bool { return strings.Contains(s.log.String(), "all allowed connections are open") })
	close(slow.goOn)
	if _, got := answer(t, br, "GET"); got != "yes" {
		t.Errorf("the request that was there got %q", got)
	}
	if _, got := answer(t, bufio.NewReader(second), "GET"); got != "yes" {
		t.Errorf("who waited for room got %q", got)
	}
}

type heldListener struct {
	net.Listener
	first *heldConn
}

func (l *heldListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.first.TCPConn != nil {
		return c, err
	}
	l.first.TCPConn = c.(*net.TCPConn)
	return l.first, nil
}

// heldConn, once held, reads when it may go on.
type heldConn struct {
	*net.TCPConn
	held atomic.Bool
	goOn chan struct{}
}

func (c *heldConn) Read(p []byte) (int, error) {
	if c.held.Load() {
		<-c.goOn
	}
	return c.TCPConn.Read(p)
}

// Many clients fight for few places. Whatever is closed, it owes nobody an answer.
func TestLimitCutsNoRequest(t *testing.T) {
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	owing := &owingListener{Listener: l}
	s := serveOn(t, owing, http.HandlerFunc(yes), limitedTo(3))
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for served := 0; served < 40; {
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Error(err)
					return
				}
				c.SetDeadline(time.Now().Add(20 * time.Second))
				br := bufio.NewReader(c)
				for range 10 {
					io.WriteString(c, get)
					res, err := http.ReadResponse(br, nil)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						t.Error("no answer within 20 s")
						return
					} else if err != nil {
						break // it was idle
					}
					io.Copy(io.Discard, res.Body)
					served++
				}
				c.Close()
			}
		})
	}
	clients.Wait()
	s.Close()
	<-s.done
	eventually(t, "all to be closed", func() bool { return owing.open.Load() == 0 })
	if n := owing.owed.Load(); n > 0 {
		t.Errorf("%d connections were closed with a request", n)
	}
	if n := owing.most.Load(); n > 4 { // one waits
		t.Errorf("%d connections were open at once; want 3, and one that waits", n)
	}
}

type owingListener struct {
	net.Listener
	open, most, owed atomic.Int64
}

func (l *owingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.most.Store(max(l.most.Load(), l.open.Add(1)))
	return &owingConn{Conn: c, l: l}, nil
}

// owingConn knows at its end whether a request was read and not answered.
type owingConn struct {
	net.Conn
	l             *owingListener
	read, written atomic.Int64
	closed        sync.Once
}

func (c *owingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.read.Add(int64(n))
	return n, err
}

func (c *owingConn) Write(p []byte) (int, error) {
	c.written.Add(int64(strings.Count(string(p), "HTTP/1.1 200")))
	return c.Conn.Write(p)
}

func (c *owingConn) Close() error {
	c.closed.Do(func() {
		if c.read.Load() > c.written.Load()*int64(len(get)) {
			c.l.owed.Add(1)
		}
		c.l.open.Add(-1)
	})
	return c.Conn.Close()
}

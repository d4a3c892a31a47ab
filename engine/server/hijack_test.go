package server_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"detour/engine/server"
)

// Whoever asks whether the client is still there while the handler takes the
// connection starts no watch that would read from it.
func TestHijackBesideContext(t *testing.T) {
	const rounds, message = 200, "hello"
	got := make(chan string, rounds)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hijacked := make(chan struct{})
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				for {
					select {
					case <-hijacked:
						return
					default:
						_ = r.Context().Err()
					}
				}
			})
		}
		c, _, err := http.NewResponseController(w).Hijack()
		close(hijacked)
		asking.Wait()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "taken")
		b, _ := io.ReadAll(c)
		got <- string(b)
	}), nil)
	var clients sync.WaitGroup
	for range rounds {
		clients.Go(func() {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			_, _ = io.ReadFull(c, make([]byte, len("taken")))
			time.Sleep(2 * server.WatchDelay) // longer than a watch takes to begin
			_, _ = io.WriteString(c, message)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.ReadAll(c)
		})
	}
	clients.Wait()
	stolen := 0
	for range rounds {
		if <-got != message {
			stolen++
		}
	}
	if stolen > 0 {
		t.Errorf("of %d connections that were taken %d were read from by the server", rounds, stolen)
	}
}

// A read of the body that begins while the handler takes the connection does not
// have it wait for the rest of that body.
func TestHijackBesideReader(t *testing.T) {
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	begun, ended := make(chan struct{}), make(chan struct{})
	s := serveOn(t, deadlineListener{l, begun, ended}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		go func() { _, _ = io.Copy(io.Discard, r.Body) }()
		<-begun
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "taken")
	}), nil)
	c := s.dial(t)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	if b, err := io.ReadAll(c); string(b) != "taken" {
		t.Errorf("got %q, %v; want the connection taken", b, err)
	}
}

// deadlineListener has a connection whose read deadline is slow to be lifted: that
// begins, and lasts until somebody has it end in the past, or nobody does for a
// while.
type deadlineListener struct {
	net.Listener
	begun, ended chan struct{}
}

func (l deadlineListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &deadlineConn{Conn: c, begun: l.begun, ended: l.ended}, err
}

type deadlineConn struct {
	net.Conn
	once         sync.Once
	begun, ended chan struct{}
}

func (c *deadlineConn) SetReadDeadline(by time.Time) error {
	switch {
	case by.IsZero():
		c.once.Do(func() {
			close(c.begun)
			select {
			case <-c.ended:
			case <-time.After(100 * time.Millisecond):
			}
		})
	case by.Before(time.Now()):
		defer close(c.ended)
	}
	return c.Conn.SetReadDeadline(by)
}

func TestHijack(t *testing.T) {
	noLeak(t)
	for _, watched := range []bool{false, true} {
		for _, early := range []string{"", "e", "early bird"} {
			watching := make(chan struct{})
			s := serveWatched(t, func(w http.ResponseWriter, r *http.Request, reading func() bool) {
				r.Context().Done()
				if watched {
					eventually(t, "the watch", reading)
					close(watching)
					eventually(t, "the watch to have read", func() bool { return early == "" || !reading() })
				}
				conn, buffered, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				io.Copy(conn, buffered)
				if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
					t.Error("the hijacked connection cannot be half-closed")
				}
			}, secure)
			c := s.dialTLS(t)
			const request = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n"
			if watched {
				io.WriteString(c, request)
				<-watching
				io.WriteString(c, early)
			} else {
				io.WriteString(c, request+early)
			}
			head := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
			if _, err := io.ReadFull(c, head); err != nil {
				t.Fatal(err)
			}
			if err := s.Shutdown(t.Context()); err != nil {
				t.Errorf("Shutdown with a hijacked connection = %v", err)
			}
			io.WriteString(c, " and late\x00\n")
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if want := early + " and late\x00\n"; string(got) != want || err != nil {
				t.Errorf("watched %v: echo %q, %v; want %q", watched, got, err, want)
			}
		}
	}
}

package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour/engine/server"
)

// Clients that take nothing, not even TLS's farewell, delay Shutdown neither one
// after the other nor beyond its context.
func TestShutdownLeavesWhoTakesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var full atomic.Bool
	s := serveOn(t, fullListener{l, &full}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), secure)
	for range 3 {
		c := s.dialTLS(t)
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		answer(t, bufio.NewReader(c), "GET")
	}
	full.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v; want %v", err, context.DeadlineExceeded)
	}
	if took := time.Since(start); took > 4*time.Second { // of the 5 s that crypto/tls gives each
		t.Errorf("Shutdown took %v", took)
	}
	s.Close()
}

// fullListener has connections that take nothing once full is true.
type fullListener struct {
	net.Listener
	full *atomic.Bool
}

func (l fullListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &fullConn{Conn: c, full: l.full, closed: make(chan struct{})}, err
}

type fullConn struct {
	net.Conn
	full   *atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (c *fullConn) Write(p []byte) (int, error) {
	if !c.full.Load() {
		return c.Conn.Write(p)
	}
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case <-time.After(5 * time.Second):
		return 0, os.ErrDeadlineExceeded
	}
}

func (c *fullConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func TestShutdownWaitsForRequests(t *testing.T) {
	noLeak(t)
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/idle" {
			return
		}
		arrived <- struct{}{}
		<-release
		io.WriteString(w, "done")
	}), secure)
	silent := s.dial(t)   // never begins its handshake
	fresh := s.dialTLS(t) // has not asked yet
	eventually(t, "the handshake", func() bool { _, err := fresh.Write(nil); return err == nil })
	idle := s.dialTLS(t)
	io.WriteString(idle, "GET /idle HTTP/1.1\r\nHost: a\r\n\r\n")
	idleReader := bufio.NewReader(idle)
	answer(t, idleReader, "GET")

	busy := s.dialTLS(t)
	io.WriteString(busy, get)
	<-arrived
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve = %v", err)
	}
	if c, err := net.Dial("tcp", s.addr); err == nil {
		c.Close()
		t.Error("still accepting")
	}
	for what, c := range map[string]io.Reader{"idle": idleReader, "silent": silent, "fresh": fresh} {
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: not cut", what)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown in a hurry = %v; want %v", err, context.DeadlineExceeded)
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown = %v before the request was done", err)
	default:
	}
	close(release)
	if res, got := answer(t, bufio.NewReader(busy), "GET"); got != "done" || !res.Close {
		t.Errorf("answer %q, close %v; want it whole, and the last", got, res.Close)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// Who has sent a part of a head is not waited for as a request is: half of what
// knocks at an open port never sends the rest.
func TestShutdownCutsPartsOfHeads(t *testing.T) {
	noLeak(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan *countedConn, 1)
	s := serveOn(t, countedListener{l, accepted}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "x") }), nil)
	type client struct {
		*net.TCPConn
		*bufio.Reader
	}
	dial := func(in string, answers int) client {
		c := s.dial(t)
		io.WriteString(c, in)
		br := bufio.NewReader(c)
		for range answers {
			answer(t, br, "GET")
		}
		theirs := <-accepted
		eventually(t, "a read behind what was sent", func() bool { return theirs.waits.Load() == int64(len(in)) })
		return client{c, br}
	}
	const part = "GET / HTTP/1.1\r\nHo"
	goesOn := dial(get+part, 1)
	cut := map[string]client{"at first": dial(part, 0), "of one byte": dial("G", 0), "behind another request": dial(get+part, 1)}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(ctx) }()
	<-s.done
	io.WriteString(goesOn.TCPConn, "st: a\r\n\r\n")
	if res, _ := answer(t, goesOn.Reader, "GET"); res.StatusCode != http.StatusOK || !res.Close {
		t.Errorf("a head that was completed: %s, close %v; want an answer, the last", res.Status, res.Close)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v; want no wait for heads", err)
	}
	for what, c := range cut {
		if b, err := io.ReadAll(c.Reader); err != nil || len(b) > 0 {
			t.Errorf("part of a head %s: %q, %v; want the connection closed", what, b, err)
		}
	}
}

// countedListener has connections that tell how much was read of them.
type countedListener struct {
	net.Listener
	accepted chan<- *countedConn
}

func (l countedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &countedConn{Conn: nc}
	l.accepted <- c
	return c, nil
}

type countedConn struct {
	net.Conn
	read  int64        // bytes; only the reader's
	waits atomic.Int64 // read, once somebody waits for more
}

func (c *countedConn) Read(p []byte) (int, error) {
	c.waits.Store(c.read)
	n, err := c.Conn.Read(p)
	c.read += int64(n)
	return n, err
}

// Most clients look for the answer when they have sent the whole body, however
// early it came.
func TestEarlyAnswerReachesWhoSendsAllFirst(t *testing.T) {
	noLeak(t)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }), secure)
	for _, framing := range []string{"Content-Length: 67108864\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n4000000\r\n"} {
		c := s.dialTLS(t)
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\n"+framing)
		piece := make([]byte, 1<<20)
		for range 64 { // more than the buffers of any socket
			if _, err := c.Write(piece); err != nil {
				t.Fatalf("%.20q: cut off while it sends: %v", framing, err)
			}
		}
		res, _ := answer(t, bufio.NewReader(c), "POST")
		if res.StatusCode != http.StatusServiceUnavailable || !res.Close {
			t.Errorf("%.20q: %s, close %v; want 503, the last", framing, res.Status, res.Close)
		}
		c.Close()
	}
}

// That a client may still be sending delays no Shutdown.
func TestShutdownCutsWhoWasAnsweredEarly(t *testing.T) {
	noLeak(t)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}), secure)
	c := s.dialTLS(t)
	io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
	answer(t, bufio.NewReader(c), "POST")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // less than a silent client has
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestCloseCutsEverything(t *testing.T) {
	noLeak(t)
	arrived := make(chan struct{}, 2)
	var ended atomic.Int32
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		if r.Method == "POST" {
			io.Copy(io.Discard, r.Body)
		} else {
			<-r.Context().Done()
		}
		ended.Add(1)
	}), secure)
	for _, in := range []string{get, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"} {
		io.WriteString(s.dialTLS(t), in)
		<-arrived
	}
	s.dial(t)
	s.Close()
	<-s.done
	eventually(t, "the handlers to end", func() bool { return ended.Load() == 2 })
}

// A handshake that waits for its certificate is waited for as a request is: not
// beyond the context, and by Close not at all.
func TestShutdownBesideSlowCertificate(t *testing.T) {
	noLeak(t)
	asked, release := make(chan struct{}), make(chan struct{})
	s := serve(t, http.NotFoundHandler(), func(o *server.Options) {
		o.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			close(asked)
			<-release
			return nil, errors.New("too late")
		}}
	})
	c := tls.Client(s.dial(t), clientTLS())
	go c.Handshake()
	<-asked
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for what, stop := range map[string]func() error{
		"Shutdown": func() error { return s.Shutdown(ctx) },
		"Close":    s.Close,
	} {
		ended := make(chan error, 1)
		go func() { ended <- stop() }()
		select {
		case err := <-ended:
			if what == "Shutdown" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Shutdown = %v; want %v", err, context.DeadlineExceeded)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s waits for the certificate", what)
		}
	}
	close(release)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown when the certificate has come = %v", err)
	}
}

// Shutdown and Close may come while a listener's own TLS is in its handshake: what
// they do then is for the race detector.
func TestShutdownBesideHandshake(t *testing.T) {
	noLeak(t)
	for i := range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := serveOn(t, tls.NewListener(l, serverTLS()), http.NotFoundHandler(), nil)
		c := tls.Client(s.dial(t), clientTLS())
		shaken := make(chan error)
		go func() { shaken <- c.Handshake() }()
		if i%2 == 0 {
			s.Close()
		} else if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		c.NetConn().Close()
		<-shaken
	}
}

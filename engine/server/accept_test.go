package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
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

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"detour/engine/server"
)

func TestTLS(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.ServerName, " ", r.TLS.NegotiatedProtocol)
	}), secure)
	res, err := s.client(t).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != name+" http/1.1" {
		t.Errorf("handler saw %q", got)
	}
	plain, err := http.Get("http://" + s.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	plain.Body.Close()
	if plain.StatusCode != http.StatusBadRequest {
		t.Errorf("http on the https port: %s; want 400", plain.Status)
	}
}

func TestHTTP2(t *testing.T) {
	noLeak(t)
	arrived, release := make(chan struct{}, 9), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, known := r.Context().Value(http.ServerContextKey).(*http.Server)
		arrived <- struct{}{}
		<-release
		fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName, " ", known)
	}), secure)
	tr := s.client(t).Transport.(*http.Transport)
	tr.ForceAttemptHTTP2 = true
	tr.TLSClientConfig.NextProtos = nil
	answers := make(chan string, 1)
	go func() {
		res, err := (&http.Client{Transport: tr}).Get("https://" + name + "/")
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answers <- string(b)
	}()
	<-arrived
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	<-s.done
	close(release)
	if got, want := <-answers, "HTTP/2.0 "+name+" true"; got != want {
		t.Errorf("answer %q; want %q", got, want)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// A listener may do TLS itself, with the handshake done or not.
func TestListenerWithTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := serveOn(t, tls.NewListener(l, serverTLS()), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.TLS.ServerName)
	}), nil)
	res, err := s.client(t).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, _ := io.ReadAll(res.Body); string(got) != name {
		t.Errorf("handler saw %q", got)
	}
}

// Large answers arrive whole on all kinds of connections, in whatever pieces
// they are written.
func TestLargeAnswers(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(1<<20))
		}
		for n, left := 1, 1<<20; left > 0; n = n*3 + 1 {
			m, err := w.Write(make([]byte, min(n%200000, left)))
			if err != nil {
				t.Error(err)
				return
			}
			left -= m
		}
	}), secure)
	for _, path := range []string{"/length", "/chunked"} {
		res, err := s.client(t).Get("https://" + name + path)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if n != 1<<20 || err != nil {
			t.Errorf("%s: %d bytes, %v; want %d", path, n, err, 1<<20)
		}
	}
}

// A client that makes mistakes all day fills one line a minute.
func TestRefusalsAreLoggedRarely(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), nil)
	for range 20 {
		talk(t, s.addr, "GET / HTTP/1.1\r\n\r\n")
		talk(t, s.addr, "\x16\x03\x01")
	}
	if n := strings.Count(s.log.String(), "refused requests"); n != 2 {
		t.Errorf("%d lines; want one a kind\n%s", n, s.log)
	}
}

// Over HTTP/2, too.
func TestHTTP2RefusalsAreLoggedRarely(t *testing.T) {
	s := serve(t, http.NotFoundHandler(), secure)
	for range 5 {
		conf := clientTLS()
		conf.NextProtos = []string{"h2"}
		c := tls.Client(s.dial(t), conf)
		// A preface, SETTINGS, and a PING on a stream.
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"+
			"\x00\x00\x08\x06\x00\x00\x00\x00\x01somebody")
		io.Copy(io.Discard, c) // to the end, which comes after the line
	}
	const line = `msg="refused requests" reason="PING on a stream" count=1`
	if n := strings.Count(s.log.String(), "refused requests"); n != 1 || !strings.Contains(s.log.String(), line) {
		t.Errorf("%d lines; want one with %s\n%s", n, line, s.log)
	}
}

// What panics, or ends its goroutine, while a client greets ends the connection to that client alone.
func TestPanicInHandshake(t *testing.T) {
	noLeak(t)
	cert, _ := certificate()
	s := serve(t, http.NotFoundHandler(), func(o *server.Options) {
		o.TLS = &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			switch hello.ServerName {
			case "panic.example.test":
				panic("a bug")
			case "goexit.example.test":
				runtime.Goexit()
			}
			return &cert, nil
		}}
	})
	for _, bug := range []string{"panic", "goexit"} {
		conf := clientTLS()
		conf.ServerName = bug + ".example.test"
		if err := tls.Client(s.dial(t), conf).Handshake(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: Handshake = %v; want the end of the connection", bug, err)
		}
	}
	c := s.dialTLS(t)
	io.WriteString(c, get)
	answer(t, bufio.NewReader(c), "GET")
	patience, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(patience); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if n := strings.Count(s.log.String(), `level=ERROR msg="TLS handshake panicked"`); n != 1 {
		t.Errorf("%d lines about the panic; want 1\n%s", n, s.log)
	}
}

// Shutdown may come when the handshake is done and HTTP/2 has not begun: what was
// asked by then is served all the same, however long it takes.
func TestShutdownBeforeHTTP2Begins(t *testing.T) {
	noLeak(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := latchedListener{tcp, make(chan struct{}), make(chan struct{})}
	s := serveOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			t.Error("the request was cut")
		case <-time.After(1500 * time.Millisecond): // longer than a client without a request has
		}
	}), secure)
	conf := clientTLS()
	conf.NextProtos = []string{"h2"}
	c := tls.Client(s.dial(t), conf)
	_, _ = io.WriteString(c, http2.ClientPreface)
	f := http2.NewFramer(c, c)
	_ = f.WriteSettings()
	var head bytes.Buffer
	e := hpack.NewEncoder(&head)
	for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", "/"}} {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndStream: true, EndHeaders: true})
	<-l.begins
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	for answered := false; !answered; {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		_, answered = frame.(*http2.HeadersFrame)
	}
	_ = c.Close()
	if err := <-down; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// latchedListener has one connection. HTTP/2 begins on it when its read deadline is
// set, as Shutdown does.
type latchedListener struct {
	net.Listener
	begins, deadline chan struct{} // closed when it is about to, and when it may
}

func (l latchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &latchedConn{Conn: c, l: l}, err
}

type latchedConn struct {
	net.Conn
	l        latchedListener
	asked    atomic.Int32
	deadline sync.Once
}

// RemoteAddr is asked for when the connection is taken, and when HTTP/2 begins.
func (c *latchedConn) RemoteAddr() net.Addr {
	if c.asked.Add(1) == 2 {
		close(c.l.begins)
		<-c.l.deadline
	}
	return c.Conn.RemoteAddr()
}

func (c *latchedConn) SetReadDeadline(by time.Time) error {
	err := c.Conn.SetReadDeadline(by)
	c.deadline.Do(func() { close(c.l.deadline) })
	return err
}

package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour/gateway"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// quicServing is one QUICServer on loopback.
type quicServing struct {
	server *gateway.QUICServer
	addr   string
	done   chan error
}

func serveQUIC(t testing.TB, h http.Handler, edit ...func(*gateway.ServerOptions)) *quicServing {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &quicServing{addr: c.LocalAddr().String(), done: make(chan error, 1)}
	o := gateway.ServerOptions{Handler: h, TLS: serverTLS(), Log: slog.New(slog.DiscardHandler)}
	for _, f := range edit {
		f(&o)
	}
	s.server = gateway.NewQUICServer(o)
	go func() { s.done <- s.server.Serve(c) }()
	t.Cleanup(func() { s.server.Close() })
	return s
}

func (s *quicServing) transport(t testing.TB) *http3.Transport {
	t.Helper()
	tr := &http3.Transport{
		TLSClientConfig: clientTLS(http3.NextProtoH3),
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: 20 * time.Second}, // of many at once, on a slow machine
		Dial: func(ctx context.Context, _ string, conf *tls.Config, qconf *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, s.addr, conf, qconf)
		},
	}
	t.Cleanup(func() { tr.Close() })
	return tr
}

func (s *quicServing) client(t testing.TB) *http.Client {
	return &http.Client{Transport: s.transport(t), Timeout: 20 * time.Second}
}

func TestQUICServer(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.TLS.ServerName, r.TLS.NegotiatedProtocol, b)
	}))
	res, err := s.client(t).Post("https://"+name+"/", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if want := "HTTP/3.0 " + name + " h3 hello"; string(got) != want {
		t.Errorf("handler saw %q; want %q", got, want)
	}

	conf := clientTLS(http3.NextProtoH3)
	conf.ServerName, conf.InsecureSkipVerify = "other.example.test", true
	if c, err := quic.DialAddr(t.Context(), s.addr, conf, nil); err == nil {
		c.CloseWithError(0, "")
		t.Error("an unknown name was served; want a refused handshake")
	}
}

// What panics while a client greets ends the connection to that client alone.
func TestQUICServerSurvivesPanicInHandshake(t *testing.T) {
	cert, _ := serverCertificate()
	log := &syncBuffer{}
	s := serveQUIC(t, http.HandlerFunc(describe), func(o *gateway.ServerOptions) {
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		o.TLS = gateway.TLSConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != name {
				panic("a bug")
			}
			return &cert, nil
		})
	})
	conf := clientTLS(http3.NextProtoH3)
	conf.ServerName = "other.example.test"
	if c, err := quic.DialAddr(t.Context(), s.addr, conf, nil); err == nil {
		c.CloseWithError(0, "")
		t.Error("the handshake of a panic was done")
	}
	res, err := s.client(t).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if n := strings.Count(log.String(), `level=ERROR msg="TLS handshake panicked"`); n != 1 {
		t.Errorf("%d lines about the panic; want 1\n%s", n, log)
	}
}

func TestQUICServerRefusesLargeHeads(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	for size, want := range map[int]int{60 << 10: 200, 70 << 10: 431} {
		req, _ := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
		req.Header.Set("X", strings.Repeat("x", size))
		res, err := s.client(t).Do(req)
		if err != nil {
			t.Errorf("header of %d bytes: %v", size, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("header of %d bytes: %s; want %d", size, res.Status, want)
		}
	}
}

// Early data can be replayed, so who resumes a session gets no answer to any.
func TestQUICServerTakesNoEarlyData(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(describe))
	conf := clientTLS(http3.NextProtoH3)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for visit := range 2 {
		var c *quic.Conn
		tr := &http3.Transport{TLSClientConfig: conf, Dial: func(ctx context.Context, _ string, conf *tls.Config, qconf *quic.Config) (_ *quic.Conn, err error) {
			c, err = quic.DialAddrEarly(ctx, s.addr, conf, qconf)
			return c, err
		}}
		req, _ := http.NewRequest(http3.MethodGet0RTT, "https://"+name+"/", nil)
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if state := c.ConnectionState(); state.Used0RTT || state.TLS.DidResume != (visit == 1) {
			t.Errorf("visit %d: early data = %v, resumed = %v; want none, and the session of the visit before", visit, state.Used0RTT, state.TLS.DidResume)
		}
		tr.Close()
	}
}

func TestQUICServerShutdownWaitsForRequests(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.Write(make([]byte, 1<<20))
	}))
	c := s.client(t)
	answers := make(chan error, 1)
	go func() {
		res, err := c.Get("https://" + name + "/")
		if err != nil {
			answers <- err
			return
		}
		defer res.Body.Close()
		n, err := io.Copy(io.Discard, res.Body)
		if n != 1<<20 {
			err = fmt.Errorf("%d bytes: %w", n, err)
		}
		answers <- err
	}()
	receive(t, "the request", arrived)
	down := make(chan error, 1)
	go func() { down <- s.server.Shutdown(t.Context()) }()
	if err := receive(t, "the end of Serve", s.done); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve = %v; want %v", err, http.ErrServerClosed)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if c, err := quic.DialAddr(ctx, s.addr, clientTLS(http3.NextProtoH3), nil); err == nil {
		c.CloseWithError(0, "")
		t.Error("still accepting")
	}
	select {
	case err := <-down:
		t.Fatalf("Shutdown = %v before the request was done", err)
	default:
	}
	close(release)
	if err := receive(t, "the answer", answers); err != nil {
		t.Errorf("the answer broke off: %v", err)
	}
	if err := receive(t, "the end of Shutdown", down); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

// A client that has nothing in flight but does not leave must not use up the
// whole grace.
func TestQUICServerShutdownDoesNotWaitForIdle(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	// Only QUIC, so that nobody reads the GOAWAY.
	c, err := quic.DialAddr(t.Context(), s.addr, clientTLS(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		t.Errorf("Shutdown = %v; want it to end soon", err)
	}
}

func TestQUICServerCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	started := make(chan struct{}, 1)
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started <- struct{}{}
		<-r.Context().Done()
	}))
	tr := s.transport(t)
	go (&http.Client{Transport: tr}).Get("https://" + name + "/")
	receive(t, "the request", started)
	s.server.Close()
	s.server.Close()
	receive(t, "the end of Serve", s.done)
	tr.Close()
	eventually(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

// A client that missed the end of the process before must not wait until its
// own patience is over.
func TestQUICServerKnowsTheConnectionsOfItsPast(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	keyed := func(o *gateway.ServerOptions) { o.QUICResetKey = key }
	past := serveQUIC(t, http.HandlerFunc(describe), keyed)

	// The way to the server, so that it can be another's.
	way := forward(t, past.addr)
	c, err := quic.DialAddr(t.Context(), way.addr, clientTLS(http3.NextProtoH3), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseWithError(0, "")
	// With the answer comes the word that the handshake is done: before it, the
	// client would repeat the handshake, which nobody answers.
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+name+"/", nil)
	res, err := past.transport(t).NewClientConn(c).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	s, err := c.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	way.to(t, serveQUIC(t, http.HandlerFunc(describe), keyed).addr)
	if _, err := s.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Context().Done():
		if err := context.Cause(c.Context()); !errors.As(err, new(*quic.StatelessResetError)) {
			t.Errorf("the connection ended with %v; want a stateless reset", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the client is still waiting")
	}
}

// forwarder passes the datagrams of one client on to a server.
type forwarder struct {
	addr    string
	target  atomic.Pointer[net.UDPAddr]
	largest atomic.Int64 // datagram that passes; larger ones are lost
}

func (f *forwarder) to(t *testing.T, addr string) {
	t.Helper()
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	f.target.Store(a)
}

func forward(t *testing.T, addr string) *forwarder {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &forwarder{addr: c.LocalAddr().String()}
	f.largest.Store(2000)
	f.to(t, addr)
	var done sync.WaitGroup
	t.Cleanup(func() { c.Close(); done.Wait() })
	done.Go(func() {
		servers := map[string]bool{}
		var client net.Addr
		for b := make([]byte, 2000); ; {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if int64(n) > f.largest.Load() {
				continue
			}
			target := f.target.Load()
			servers[target.String()] = true
			if !servers[from.String()] {
				client = from
				c.WriteTo(b[:n], target)
			} else if from.String() == target.String() {
				c.WriteTo(b[:n], client)
			}
		}
	})
	return f
}

// A way that carries no more than IPv6 has to, such as a tunnel, and says nothing
// of what it drops is good enough.
func TestQUICServerOverTheSmallestLink(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 100<<10)) }))
	way := forward(t, s.addr)
	way.largest.Store(1280 - 40 - 8) // IPv6's header, and UDP's
	tr := s.transport(t)
	tr.QUICConfig.HandshakeIdleTimeout = 5 * time.Second
	tr.QUICConfig.InitialPacketSize = 1200
	tr.Dial = func(ctx context.Context, _ string, conf *tls.Config, qconf *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, way.addr, conf, qconf)
	}
	res, err := (&http.Client{Transport: tr}).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); n != 100<<10 || err != nil {
		t.Errorf("got %d bytes, %v; want %d", n, err, 100<<10)
	}
}

// When many handshakes begin at once, clients have to prove their address and
// are served.
func TestQUICServerUnderHandshakeLoad(t *testing.T) {
	s := serveQUIC(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	defer clients.Wait()
	defer cancel()
	for range 150 {
		clients.Go(func() {
			if c, err := quic.DialAddr(ctx, s.addr, clientTLS(http3.NextProtoH3), nil); err == nil {
				c.CloseWithError(0, "")
			}
		})
	}
	res, err := s.client(t).Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
}

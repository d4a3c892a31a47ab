package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour/engine/server"
)

// name is what the tests' servers are called.
const name = "www.example.test"

// Those in parallel mostly wait, so more of them than processors may run at once.
func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6")
	os.Exit(m.Run())
}

// serving is one Server on loopback.
type serving struct {
	*server.Server
	addr string
	log  *syncBuffer
	done chan error // what Serve returned
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serve serves h on plaintext, or as edit says, until the test ends.
func serve(t testing.TB, h http.Handler, edit func(o *server.Options)) *serving {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, h, edit)
}

func serveOn(t testing.TB, l net.Listener, h http.Handler, edit func(o *server.Options)) *serving {
	t.Helper()
	s := &serving{addr: l.Addr().String(), log: &syncBuffer{}, done: make(chan error, 1)}
	o := server.Options{Handler: h, ErrorLog: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if edit != nil {
		edit(&o)
	}
	s.Server = server.New(o)
	go func() { s.done <- s.Serve(l) }()
	t.Cleanup(func() { s.Close() })
	return s
}

func secure(o *server.Options) { o.TLS = serverTLS() }

func serverTLS() *tls.Config {
	cert, _ := certificate()
	return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
}

func clientTLS() *tls.Config {
	_, roots := certificate()
	return &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"http/1.1"}}
}

var certificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
})

func (s *serving) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func (s *serving) dialTLS(t testing.TB) *tls.Conn {
	t.Helper()
	c := tls.Client(s.dial(t), clientTLS())
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// client speaks HTTP/1.1 over TLS with s.
func (s *serving) client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig: clientTLS(),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.addr)
		},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// serveWatched serves h as edit says. reading tells h whether somebody reads from
// the connection of its request: the watch, if h does not.
func serveWatched(t testing.TB, h func(w http.ResponseWriter, r *http.Request, reading func() bool), edit func(o *server.Options)) *serving {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &watchedListener{Listener: tcp}
	return serveOn(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := l.conns.Load(r.RemoteAddr)
		h(w, r, c.(*watchedConn).reading.Load)
	}), edit)
}

type watchedListener struct {
	net.Listener
	conns sync.Map // of *watchedConn, by the client's address
}

func (l *watchedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &watchedConn{TCPConn: nc.(*net.TCPConn)}
	l.conns.Store(c.RemoteAddr().String(), c)
	return c, nil
}

type watchedConn struct {
	*net.TCPConn
	reading atomic.Bool
}

func (c *watchedConn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	defer c.reading.Store(false)
	return c.TCPConn.Read(p)
}

// eventually waits until cond holds.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 10 s for %s", what)
		}
	}
}

func numGoroutine() int { return runtime.NumGoroutine() }

// noLeak checks at the end of a test that it left no goroutine behind.
func noLeak(t testing.TB) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				buf := make([]byte, 1<<20)
				t.Errorf("%d goroutines; %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
				return
			}
		}
	})
}

const get = "GET / HTTP/1.1\r\nHost: " + name + "\r\n\r\n"

func answer(t testing.TB, br *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(b)
}

func TestServeReturnsErrServerClosed(t *testing.T) {
	noLeak(t)
	s := serve(t, http.NotFoundHandler(), nil)
	c := s.dial(t)
	io.WriteString(c, get)
	answer(t, bufio.NewReader(c), "GET")
	s.Close()
	s.Close()
	if err := <-s.done; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve = %v; want %v", err, http.ErrServerClosed)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("Serve after Close = %v; want %v", err, http.ErrServerClosed)
	}
}

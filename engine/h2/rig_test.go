package h2

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/engine/workers"
)

// rig is a server of this package on a loopback port, over TLS.
type rig struct {
	addr   string
	client *http.Client
	conf   *tls.Config

	mu    sync.Mutex
	conns map[*Conn]struct{}
	work  sync.WaitGroup
}

// certificate is that of httptest.
func certificate(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	server = &tls.Config{Certificates: s.TLS.Certificates, NextProtos: []string{"h2"}}
	client = s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.NextProtos = []string{"h2"}
	return server, client
}

func start(t testing.TB, h http.HandlerFunc, o Options) *rig {
	t.Helper()
	return startTuned(t, h, o, func(*Conn) {})
}

// startTuned is start with a last touch to each connection.
func startTuned(t testing.TB, h http.HandlerFunc, o Options, tune func(*Conn)) *rig {
	t.Helper()
	server, client := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	o.Handler, o.Workers = h, new(workers.Pool)
	g := &rig{addr: l.Addr().String(), conf: client, conns: map[*Conn]struct{}{}}
	ctx, cancel := context.WithCancel(context.Background())
	g.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.work.Go(func() {
				if c.(*tls.Conn).HandshakeContext(ctx) != nil {
					c.Close()
					return
				}
				conn := New(c, o)
				tune(conn)
				g.mu.Lock()
				g.conns[conn] = struct{}{}
				g.mu.Unlock()
				_ = conn.Serve(context.WithValue(ctx, http.LocalAddrContextKey, c.LocalAddr()))
				g.mu.Lock()
				delete(g.conns, conn)
				g.mu.Unlock()
			})
		}
	})
	g.client = transportFor(client)
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		l.Close()
		cancel()
		g.work.Wait()
		o.Workers.Stop()
		o.Workers.Wait()
	})
	return g
}

func transportFor(conf *tls.Config) *http.Client {
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: conf.Clone(), ForceAttemptHTTP2: true, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second,
	}
}

func (g *rig) url(path string) string { return "https://" + g.addr + path }

func (g *rig) shutdown() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Shutdown()
	}
}

// closeAll cuts all connections.
func (g *rig) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Close()
	}
}

// startOracle is the same handler behind net/http.
func startOracle(t testing.TB, h http.HandlerFunc) *rig {
	t.Helper()
	server, client := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: h, TLSConfig: server, DisableGeneralOptionsHandler: true,
		ErrorLog: log.New(io.Discard, "", 0), MaxHeaderBytes: 64 << 10,
	}
	g := &rig{addr: l.Addr().String(), conf: client, client: transportFor(client)}
	g.work.Go(func() { _ = s.ServeTLS(l, "", "") })
	t.Cleanup(func() {
		g.client.CloseIdleConnections()
		s.Close()
		g.work.Wait()
	})
	return g
}

// waitFor waits for a condition.
func waitFor(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("waited in vain for %s\n%s", what, buf[:runtime.Stack(buf, true)])
		}
	}
}

// noLeaks fails if goroutines of this package are left when the test ends. It
// must be called before the rig is started.
func noLeaks(t testing.TB) {
	t.Cleanup(func() {
		waitFor(t, "the end of all goroutines", func() bool {
			buf := make([]byte, 4<<20)
			return !strings.Contains(string(buf[:runtime.Stack(buf, true)]), "h2.(*Conn)")
		})
	})
}

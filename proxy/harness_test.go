package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/engine/memory"
	"detour/engine/server"
	_ "detour/gateway/xconnect" // extended CONNECT, as in production
	"detour/logging"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// host is the name that the tests' routes serve; every name below
// example.test leads to the server under test.
const host = "blog.example.test"

// serverKind is something that serves a handler over TLS. The tests run on
// each, so that a new engine is held to what net/http does.
type serverKind struct {
	name string
	// serve serves h until the test ends: HTTP/1 and 2 on ln, HTTP/3 on pc.
	serve func(t testing.TB, h http.Handler, ln net.Listener, pc net.PacketConn, conf *tls.Config)
}

var serverKinds = []serverKind{{"net/http", serveNetHTTP}, {"detour", serveEngine}}

// engine lets the same tests run on each: go test ./proxy -engine=net/http.
var engine = flag.String("engine", "detour", "what serves and forwards in the tests that do not say it themselves")

// usual is the kind of server that engine names.
func usual(t testing.TB) serverKind {
	t.Helper()
	for _, kind := range serverKinds {
		if kind.name == *engine {
			return kind
		}
	}
	t.Fatalf("-engine=%s is none of %v", *engine, serverKinds)
	return serverKind{}
}

func serveEngine(t testing.TB, h http.Handler, ln net.Listener, pc net.PacketConn, conf *tls.Config) {
	conf = conf.Clone()
	conf.NextProtos = []string{"h2", "http/1.1"}
	tcp := server.New(server.Options{Handler: h, TLS: conf})
	udp := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(conf), Logger: slog.New(slog.DiscardHandler)}
	var served sync.WaitGroup
	served.Go(func() { tcp.Serve(ln) })
	served.Go(func() { udp.Serve(pc) })
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		served.Wait()
		pc.Close()
	})
}

func serveNetHTTP(t testing.TB, h http.Handler, ln net.Listener, pc net.PacketConn, conf *tls.Config) {
	quiet := slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	conf = conf.Clone()
	conf.NextProtos = []string{"h2", "http/1.1"}
	tcp := &http.Server{Handler: h, TLSConfig: conf, ErrorLog: quiet, DisableGeneralOptionsHandler: true}
	udp := &http3.Server{Handler: h, TLSConfig: http3.ConfigureTLSConfig(conf), Logger: slog.New(slog.DiscardHandler)}
	var served sync.WaitGroup
	served.Go(func() { tcp.ServeTLS(ln, "", "") })
	served.Go(func() { udp.Serve(pc) })
	t.Cleanup(func() {
		tcp.Close()
		udp.Close()
		served.Wait()
		pc.Close()
	})
}

// edge is a server under test on loopback.
type edge struct {
	addr  string // host:port of TCP; the same of UDP
	roots *x509.CertPool
}

// serve serves h on loopback, TCP and UDP.
func serve(t testing.TB, kind serverKind, h http.Handler) *edge {
	t.Helper()
	cert, roots := testCertificate()
	ln, pc := listenBoth(t)
	kind.serve(t, h, ln, pc, &tls.Config{Certificates: []tls.Certificate{cert}})
	return &edge{addr: ln.Addr().String(), roots: roots}
}

// listenBoth listens on the same free port on TCP and UDP.
func listenBoth(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 10 { // another process may have the UDP port
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if pc, err := net.ListenPacket("udp", ln.Addr().String()); err == nil {
			return ln, pc
		}
		ln.Close()
	}
	t.Fatal("no port is free on both TCP and UDP")
	return nil, nil
}

// testCertificate is a P-256 certificate for the tests' names and its root.
var testCertificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "test"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		DNSNames:              []string{"example.test", "*.example.test", "localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
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

// testRootsPEM is testCertificate's root as an operator would write it.
func testRootsPEM() string {
	cert, _ := testCertificate()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
}

// protocols are the names that client knows.
var protocols = []string{"h1", "h2", "h3"}

// client is an HTTP client of e that speaks one protocol, whatever host is
// asked for. It follows no redirect and decompresses nothing.
func (e *edge) client(t testing.TB, protocol string) *http.Client {
	t.Helper()
	c := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       20 * time.Second, // a test that hangs says where
	}
	conf := &tls.Config{RootCAs: e.roots}
	if protocol == "h3" {
		tr := &http3.Transport{
			TLSClientConfig:    conf,
			DisableCompression: true,
			Dial: func(ctx context.Context, _ string, conf *tls.Config, qconf *quic.Config) (*quic.Conn, error) {
				return quic.DialAddr(ctx, e.addr, conf, qconf)
			},
		}
		t.Cleanup(func() { tr.Close() })
		c.Transport = tr
		return c
	}
	tr := &http.Transport{
		TLSClientConfig:    conf,
		DisableCompression: true,
		Protocols:          new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, e.addr)
		},
	}
	tr.Protocols.SetHTTP1(protocol == "h1")
	tr.Protocols.SetHTTP2(protocol == "h2")
	t.Cleanup(tr.CloseIdleConnections)
	c.Transport = tr
	return c
}

// dial opens a TLS connection to e that speaks HTTP/1.1 or, with "h2", HTTP/2.
func (e *edge) dial(t testing.TB, alpn string) *tls.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", e.addr, &tls.Config{RootCAs: e.roots, ServerName: host, NextProtos: []string{alpn}})
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { conn.Close() })
	return conn
}

// raw sends request, in which \n stands for CRLF, byte for byte over
// HTTP/1.1 and returns the answer with its body read. The method is the
// request's first word.
func (e *edge) raw(t testing.TB, request string) (*http.Response, string) {
	t.Helper()
	conn := e.dial(t, "http/1.1")
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("answer to %q: %v", request, err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// eachProtocol runs f with a client for each protocol and the URL of the
// tests' host, without a slash at its end.
func eachProtocol(t *testing.T, e *edge, f func(t *testing.T, c *http.Client, url string)) {
	t.Helper()
	for _, p := range protocols {
		t.Run(p, func(t *testing.T) { f(t, e.client(t, p), "https://"+host) })
	}
}

// rig is a whole request's way: access log, handler, upstream.
type rig struct {
	*edge
	handler  *Handler
	route    *Route // of the table in force at the start
	messages *lockedBuffer
	accesses string // the access log's file
	files    *logging.Files
}

// rigOptions say what is not usual about a rig.
type rigOptions struct {
	server   serverKind                              // zero = net/http
	upstream UpstreamOptions                         // Address "" = an http server with the handler given to newRig
	rt       func(UpstreamOptions) http.RoundTripper // what forwards; nil = http.Transport
	trusted  TrustedOptions                          //
	route    func(rt *Route)                         // changes the route before it is served
	wrap     func(http.Handler) http.Handler
	memory   *memory.Budget
}

// newRig serves host from an upstream that runs h.
func newRig(t testing.TB, h http.Handler, o rigOptions) *rig {
	t.Helper()
	if o.upstream.Address == "" {
		o.upstream = UpstreamOptions{Scheme: "http", Address: startUpstream(t, h)}
	}
	o.upstream.Engine, o.upstream.Memory = *engine == "detour", o.memory
	var transport http.RoundTripper
	if o.rt != nil {
		transport = o.rt(o.upstream)
	}
	upstream, err := NewUpstream(o.upstream, transport)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Retire)

	r := &rig{messages: new(lockedBuffer), accesses: filepath.Join(t.TempDir(), "access.log")}
	log := slog.New(slog.NewTextHandler(r.messages, nil))
	r.files = logging.NewFiles(log)
	t.Cleanup(func() { r.files.Close() })
	sink := r.files.Sink(logging.SinkOptions{Path: r.accesses, Name: "blog", Rotation: logging.Rotation{MaxSize: 1 << 20, Mode: 0o640}})
	r.route = &Route{Host: host, Names: []string{host}, Online: true, Pool: NewPool([]*Upstream{upstream}, nil), Log: sink, Stats: new(Stats)}
	if o.route != nil {
		o.route(r.route)
	}
	table, err := NewTable(TableOptions{Generation: 1, Routes: []*Route{r.route}, Trusted: NewTrusted(o.trusted), HTTP3: true})
	if err != nil {
		t.Fatal(err)
	}
	r.handler = NewHandler(HandlerOptions{Table: table, Log: log, Memory: o.memory})
	chain := logging.AccessLog(r.handler, func() *logging.Sink { return sink })
	if o.wrap != nil {
		chain = o.wrap(chain)
	}
	if o.server.serve == nil {
		o.server = usual(t)
	}
	r.edge = serve(t, o.server, chain)
	return r
}

// accessLog waits until the access log has n lines and returns them.
func (r *rig) accessLog(t testing.TB, n int) []map[string]any {
	t.Helper()
	var lines []map[string]any
	eventually(t, "lines in the access log", func() bool {
		r.files.Reopen() // else lines may wait for a second
		data, _ := os.ReadFile(r.accesses)
		lines = nil
		for line := range bytes.Lines(data) {
			var fields map[string]any
			if json.Unmarshal(line, &fields) == nil {
				lines = append(lines, fields)
			}
		}
		return len(lines) >= n
	})
	return lines
}

// startUpstream runs h on loopback over plain HTTP and returns its address.
func startUpstream(t testing.TB, h http.Handler) string {
	t.Helper()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Config.DisableGeneralOptionsHandler = true
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// startRawUpstream accepts connections on loopback, gives each to serve, which
// closes when it returns, and returns its address.
func startRawUpstream(t testing.TB, serve func(conn net.Conn, r *bufio.Reader)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			mu.Unlock()
			running.Go(func() {
				serve(conn, bufio.NewReader(conn))
				conn.Close()
				mu.Lock()
				delete(open, conn)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		mu.Lock()
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		running.Wait()
	})
	return ln.Addr().String()
}

// eventually waits until ok, which is asked again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 10 s", what)
		}
	}
}

// do sends a request and returns the answer with its body read.
func do(t testing.TB, c *http.Client, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: body: %v", req.Method, req.URL, err)
	}
	return res, string(body)
}

// get is do with a GET.
func get(t testing.TB, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	return do(t, c, newRequest(t, http.MethodGet, url, nil))
}

func newRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startTLSUpstream runs h on loopback over TLS, HTTP/1.1 and 2, with
// testCertificate, and returns its address.
func startTLSUpstream(t testing.TB, h http.Handler) string {
	t.Helper()
	cert, _ := testCertificate()
	srv := httptest.NewUnstartedServer(h)
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String()
}

// reroute puts a changed copy of r's route in force, as a flip does.
func (r *rig) reroute(t testing.TB, change func(rt *Route)) {
	t.Helper()
	rt := *r.route
	change(&rt)
	table, err := NewTable(TableOptions{Generation: r.handler.table.Load().Generation() + 1, Routes: []*Route{&rt}, Trusted: r.handler.table.Load().trusted, Bypass: r.handler.table.Load().bypass})
	if err != nil {
		t.Fatal(err)
	}
	r.handler.Swap(table)
	r.route = &rt
}

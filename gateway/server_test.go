package gateway_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"detour/gateway"

	"golang.org/x/net/http2"
)

// serving is one Server on loopback.
type serving struct {
	server gateway.Server
	addr   string
	log    *syncBuffer
	done   chan error // what Serve returned
}

// name is what the tests' servers are called.
const name = "www.example.test"

// serveOn serves h until the test ends.
func serveOn(t testing.TB, l net.Listener, h http.Handler, edit func(o *gateway.ServerOptions)) *serving {
	t.Helper()
	s := &serving{addr: l.Addr().String(), log: &syncBuffer{}, done: make(chan error, 1)}
	o := gateway.ServerOptions{Handler: h, TLS: serverTLS(), Log: slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if edit != nil {
		edit(&o)
	}
	s.server = newServer(o)
	go func() { s.done <- s.server.Serve(l) }()
	t.Cleanup(func() { s.server.Close() })
	return s
}

func serve(t testing.TB, h http.Handler, edit func(o *gateway.ServerOptions)) *serving {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, h, edit)
}

var serverCertificate = sync.OnceValues(func() (tls.Certificate, *x509.CertPool) {
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

// ended waits for Serve to return, which it must do soon after the server was
// told to stop.
func (s *serving) ended(t testing.TB) {
	t.Helper()
	select {
	case err := <-s.done:
		if !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve = %v; want %v", err, http.ErrServerClosed)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("Serve did not return within 5 s")
	}
}

func (s *serving) dial(t testing.TB, alpn string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", s.addr, clientTLS(alpn))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// client speaks one of h1 and h2 with s.
func (s *serving) client(t testing.TB, protocol string) *http.Client {
	t.Helper()
	tr := &http.Transport{
		TLSClientConfig: clientTLS(), Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.addr)
		},
	}
	tr.Protocols.SetHTTP1(protocol == "h1")
	tr.Protocols.SetHTTP2(protocol == "h2")
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// describe answers with what the server knows about the request.
func describe(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%s %s %s", r.Proto, r.TLS.ServerName, r.TLS.NegotiatedProtocol)
}

func TestServerSpeaksBothProtocols(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), nil)
	for protocol, want := range map[string]string{"h1": "HTTP/1.1 " + name + " ", "h2": "HTTP/2.0 " + name + " h2"} {
		res, err := s.client(t, protocol).Get("https://" + name + "/")
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if strings.TrimSuffix(string(got), "http/1.1") != want {
			t.Errorf("%s: handler saw %q; want %q", protocol, got, want)
		}
	}
}

// Clients that want HTTP/1.0 may say so in the handshake: ALPN has a name for it.
func TestServerSpeaksHTTP10(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), nil)
	c := s.dial(t, "http/1.0")
	io.WriteString(c, "GET / HTTP/1.0\r\nHost: "+name+"\r\n\r\n")
	got, err := io.ReadAll(c)
	if want := "HTTP/1.0 " + name + " http/1.0"; err != nil || !strings.HasPrefix(string(got), "HTTP/1.0 200 OK\r\n") || !strings.HasSuffix(string(got), want) {
		t.Errorf("answer %q, %v; want %q", got, err, want)
	}
}

func TestServerPlaintext(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			t.Error("r.TLS is set on plaintext")
		}
	}), func(o *gateway.ServerOptions) { o.TLS = nil })
	res, err := http.Get("http://" + s.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("answer %s; want 200", res.Status)
	}
}

func TestServerCutsSlowHeads(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), func(o *gateway.ServerOptions) { o.Limits.HeaderTimeout = time.Second })
	for _, before := range []string{"", "GET / HTTP/1.1\r\nHost: " + name + "\r\n\r\n"} {
		c := s.dial(t, "http/1.1")
		io.WriteString(c, before)
		br := bufio.NewReader(c)
		if before != "" {
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
		}
		stop := make(chan struct{})
		var drips sync.WaitGroup
		drips.Go(func() {
			io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+name+"\r\nX: ")
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					if _, err := io.WriteString(c, "x"); err != nil {
						return
					}
				}
			}
		})
		if got, err := io.ReadAll(br); len(got) > 0 && !strings.HasPrefix(string(got), "HTTP/1.1 40") || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a head that drips got %q, %v; want the end", got, err)
		}
		close(stop)
		drips.Wait()
	}
}

func TestServerRefusesLargeHeads(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Header.Get("X")) > 64<<10 {
			t.Error("the handler saw a head over the limit")
		}
	}), nil)
	for _, protocol := range []string{"h1", "h2"} {
		for size, want := range map[int]int{60 << 10: 200, 70 << 10: 431, 1 << 20: 431} {
			req, _ := http.NewRequest(http.MethodGet, "https://"+name+"/", nil)
			req.Header.Set("X", strings.Repeat("x", size))
			res, err := s.client(t, protocol).Do(req)
			if err != nil {
				// x/net's client gives up by itself when the server's SETTINGS say so.
				if want == 431 && protocol == "h2" || want == 431 && size == 1<<20 {
					continue
				}
				t.Errorf("%s: header of %d bytes: %v", protocol, size, err)
				continue
			}
			res.Body.Close()
			if res.StatusCode != want {
				t.Errorf("%s: header of %d bytes: %s; want %d", protocol, size, res.Status, want)
			}
		}
	}
}

// An exhausted descriptor table must not end the accept loop, and visitors are
// served again as soon as it has room.
func TestServerSurvivesExhaustion(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	full := &exhausted{Listener: l}
	full.fail.Store(true)
	s := serveOn(t, full, http.HandlerFunc(describe), nil)
	eventually(t, "a few failures", func() bool { return full.failures.Load() > 4 })
	full.fail.Store(false)
	res, err := s.client(t, "h1").Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if n := strings.Count(s.log.String(), "accepting connections"); n != 1 {
		t.Errorf("%d lines about %d failures; want 1\n%s", n, full.failures.Load(), s.log)
	}
}

// exhausted is a listener without free descriptors.
type exhausted struct {
	net.Listener
	fail     atomic.Bool
	failures atomic.Int64
}

func (l *exhausted) Accept() (net.Conn, error) {
	if l.fail.Load() {
		l.failures.Add(1)
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestServerLogsPanics(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") }), nil)
	for _, protocol := range []string{"h1", "h2"} {
		if res, err := s.client(t, protocol).Get("https://" + name + "/"); err == nil {
			res.Body.Close()
			t.Errorf("%s: a panic was answered with %s", protocol, res.Status)
		}
	}
	eventually(t, "two lines", func() bool { return strings.Count(s.log.String(), `level=ERROR msg="handler panicked"`) == 2 })
}

// After a 101 the connection belongs to the handler, whatever is spoken on it;
// without one it stays under guard.
func TestServerUpgrades(t *testing.T) {
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		io.Copy(conn, buffered)
		if half, ok := conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
			t.Error("the hijacked connection cannot be half-closed")
		}
	}), nil)
	const fields = " HTTP/1.1\r\nHost: " + name + "\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"

	c := s.dial(t, "http/1.1")
	io.WriteString(c, "GET /"+fields+"\x00\nearly ")
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %v, %v; want 101", res, err)
	}
	io.WriteString(c, "GET late\n\n")
	c.CloseWrite()
	if got, err := io.ReadAll(br); string(got) != "\x00\nearly GET late\n\n" || err != nil {
		t.Errorf("echo %q, %v; want all that was sent", got, err)
	}

	c = s.dial(t, "http/1.1")
	io.WriteString(c, "GET /refuse"+fields+"GET /refuse"+fields+"GET /refuse HTTP/1.1\nHost: x\n\n")
	br = bufio.NewReader(c)
	for _, want := range []int{200, 200, 400} {
		res, err := http.ReadResponse(br, nil)
		if err != nil || res.StatusCode != want {
			t.Fatalf("answer %v, %v; want %d", res, err, want)
		}
		io.Copy(io.Discard, res.Body)
	}
}

// CVE-2023-44487: a client that opens streams and resets them at once keeps
// only itself busy.
func TestServerRapidReset(t *testing.T) {
	var running atomic.Int64
	var most atomic.Int64
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/honest" {
			return
		}
		n := running.Add(1)
		defer running.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-r.Context().Done()
		time.Sleep(10 * time.Millisecond) // an upstream that notices late
	}), nil)
	c := s.dial(t, "h2")
	io.WriteString(c, http2.ClientPreface)
	fr := http2.NewFramer(c, c)
	fr.WriteSettings()
	head := hpackHead(name)
	go io.Copy(io.Discard, c)
	for i := range 20000 {
		id := uint32(2*i + 1)
		if fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true, EndStream: true}) != nil ||
			fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // the server had enough
		}
		if i%5000 == 0 {
			res, err := s.client(t, "h2").Get("https://" + name + "/honest")
			if err != nil {
				t.Fatalf("after %d resets: %v", i, err)
			}
			res.Body.Close()
		}
	}
	if n := most.Load(); n > 2*250 {
		t.Errorf("%d handlers ran at once; want at most about the 250 streams", n)
	}
}

func TestServerWithCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	s := serve(t, http.HandlerFunc(describe), nil)
	_, port, _ := net.SplitHostPort(s.addr)
	for flag, want := range map[string]string{"--http1.1": "HTTP/1.1 " + name + " http/1.1", "--http2": "HTTP/2.0 " + name + " h2"} {
		out, err := exec.Command(curl, "-sk", flag, "--resolve", name+":"+port+":127.0.0.1", "https://"+name+":"+port+"/").CombinedOutput()
		if err != nil || string(out) != want {
			t.Errorf("curl %s: %q, %v; want %q", flag, out, err, want)
		}
	}
}

package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/control"
	"detour/gateway"
	"detour/logging"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// rig is a whole gateway on loopback with the local CA, and clients for it.
type rig struct {
	*gateway.Gateway
	dir     string // everything it writes lives here
	config  string
	process *syncBuffer // its process log
	roots   *x509.CertPool
	ended   chan struct{} // closed when Run has returned
	stop    func() error  // SIGTERM, and what Run returned
}

// engine lets the same tests run on each: go test ./gateway -engine=net/http.
var engine = flag.String("engine", "detour", "[listen] engine of the gateways under test")

// preamble is what every configuration of a rig starts with; %[1]s is its
// directory.
const preamble = `
domain      = "example.test"
status_page = "https://status.example.net{uri}"
[listen]
http  = "127.0.0.1:0"
https = "127.0.0.1:0"
engine = "%[2]s"
grace = "2s"
[acme]
ca      = "local"
storage = "%[1]s/storage"
[log]
dir = "%[1]s/log"
[control]
socket = "%[1]s/control.sock"
`

// start runs a gateway with the given hosts and further tables.
func start(t *testing.T, rest string) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{dir: dir, config: filepath.Join(dir, "proxy.toml"), process: &syncBuffer{}}
	r.write(t, rest)
	r.run(t, gateway.Options{})
	return r
}

// run starts the gateway on the configuration that is there.
func (r *rig) run(t *testing.T, o gateway.Options) {
	t.Helper()
	o.Config = r.config
	o.Process = logging.NewProcess(r.process, logging.JSON, slog.LevelInfo)
	o.Version = "test"
	g, err := gateway.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway = g
	ctx, cancel := context.WithCancel(context.Background())
	r.ended = make(chan struct{})
	go func() { err = g.Run(ctx); close(r.ended) }()
	r.stop = sync.OnceValue(func() error { cancel(); <-r.ended; return err })
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run() = %v; want nil", err)
		}
		if t.Failed() {
			t.Logf("process log, its end:\n%s", tail(r.process.String()))
		}
	})
	pem, err := g.LocalRoot()
	if err != nil {
		t.Fatal(err)
	}
	r.roots = x509.NewCertPool()
	r.roots.AppendCertsFromPEM(pem)
}

// write replaces the configuration, keeping the preamble.
func (r *rig) write(t *testing.T, rest string) {
	t.Helper()
	data := fmt.Sprintf(preamble, r.dir, *engine) + rest
	if err := os.WriteFile(r.config, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reload fails the test when the configuration is refused.
func (r *rig) reload(t *testing.T) {
	t.Helper()
	if report := r.Reload(control.ReloadOptions{}); report.Refused() {
		t.Fatalf("Reload() was refused: %v", report.Problems)
	}
}

func (r *rig) tlsConfig() *tls.Config { return &tls.Config{RootCAs: r.roots} }

// protocols are the ways a visitor may come.
var protocols = []string{"h1", "h2", "h3"}

// client speaks one protocol to the gateway, whatever the host in the URL. It
// follows no redirect.
func (r *rig) client(t testing.TB, protocol string) *http.Client {
	t.Helper()
	addr := r.HTTPSAddr().String()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if protocol == "h3" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		quicTransport := &quic.Transport{Conn: conn}
		transport := &http3.Transport{
			TLSClientConfig:    r.tlsConfig(),
			DisableCompression: true,
			Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
				return quicTransport.DialEarly(ctx, udp, t, q)
			},
		}
		client.Transport = transport
		t.Cleanup(func() { transport.Close(); quicTransport.Close(); conn.Close() })
		return client
	}
	transport := &http.Transport{
		TLSClientConfig:    r.tlsConfig(),
		DisableCompression: true,
		ForceAttemptHTTP2:  protocol == "h2",
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	client.Transport = transport
	t.Cleanup(transport.CloseIdleConnections)
	return client
}

// answer is what a visitor saw.
type answer struct {
	Status   int
	Location string
	Body     string
}

func get(ctx context.Context, c *http.Client, url string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Location"), string(body)}, err
}

// upstream serves h on loopback and returns its address.
func upstream(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// says is an upstream that always answers text.
func says(t testing.TB, text string) string {
	return upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) })
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// receive is what comes from c, which may take a slow machine long, but not for
// ever: a test that hangs would say nothing for ten minutes.
func receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatalf("not within a minute: %s", what)
	}
	return v
}

// syncBuffer is a strings.Builder for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// blockUntil is an upstream that says that a request arrived and answers when
// it is released.
func blockUntil(arrived chan<- struct{}, release <-chan struct{}, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		select {
		case <-release:
			io.WriteString(w, text)
		case <-r.Context().Done():
		}
	}
}

// tail keeps a long log readable.
func tail(log string) string {
	const most = 20_000
	return log[max(0, len(log)-most):]
}

// Package acme_test orders certificates end to end: a real Manager, a real ACME
// authority, a stand-in for Cloudflare.
package acme_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/acme"
	"detour/logging"
	"detour/test/cloudflare"
	"detour/test/pebble"

	"github.com/caddyserver/certmagic"
	"github.com/miekg/dns"
)

// TestMain makes the system's resolver lie for all tests, as a router with a
// private view of the zone does.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		child()
	}
	// Ten orders in ten seconds would make a test of many names long.
	certmagic.RateLimitEvents = 1000
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	liar := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		reply := new(dns.Msg).SetReply(q)
		reply.Authoritative = true
		reply.Rcode = dns.RcodeNameError
		w.WriteMsg(reply) // nobody should ask
	})}
	go liar.ActivateAndServe() // ends with the process
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
	os.Exit(m.Run())
}

// world is everything around a Manager.
type world struct {
	*testing.T
	cf       *cloudflare.Server
	ca       *pebble.Server
	token    string
	storage  string
	settings acme.Settings
	log      *buffer
}

// newWorld has the zone example.test and a good token for it.
func newWorld(t *testing.T, o pebble.Options) *world {
	t.Helper()
	w := &world{T: t, cf: cloudflare.Start(t, "example.test"), storage: t.TempDir(), log: &buffer{}}
	o.DNS = w.cf.DNS
	w.ca = pebble.Start(t, o)
	w.token = w.cf.Token(cloudflare.Full)
	w.settings = acme.Settings{
		Issuers:    []acme.Issuer{{CA: w.ca.Directory, Roots: w.ca.RootFile, Email: "admin@example.test"}},
		Token:      func() (string, error) { return w.token, nil },
		DisableARI: true, // Pebble picks a random time within a short life
	}
	t.Cleanup(func() {
		if text := w.log.String(); strings.Contains(text, "cf_secret_") {
			t.Errorf("the log holds a token")
		}
	})
	return w
}

// start runs a Manager on the world's storage until the test ends.
func (w *world) start() *acme.Manager {
	w.Helper()
	process := logging.NewProcess(w.log, logging.JSON, slog.LevelDebug)
	m, err := acme.New(acme.Options{
		Storage:            w.storage,
		Log:                process.Slog,
		Zap:                process.Zap,
		RenewCheckInterval: time.Second,
		CloudflareBaseURL:  w.cf.URL,
	})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { w.stop(m) })
	return m
}

func (w *world) stop(m *acme.Manager) {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		w.Errorf("Close: %v", err)
	}
}

func hosts(names ...string) []acme.Subject {
	var all []acme.Subject
	for _, name := range names {
		all = append(all, acme.Subject{Names: []string{name}})
	}
	return all
}

// handshake connects a client with conf to m, in memory.
func handshake(m *acme.Manager, conf *tls.Config) (*x509.Certificate, error) {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		tls.Server(server, &tls.Config{GetCertificate: m.GetCertificate}).Handshake() // the client sees it
		server.Close()
	}()
	c := tls.Client(client, conf)
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// served returns the certificate for name, whoever signed it.
func served(m *acme.Manager, name string) (*x509.Certificate, error) {
	return handshake(m, &tls.Config{ServerName: name, InsecureSkipVerify: true})
}

// trusted reports whether name is served with a certificate of the authority.
func (w *world) trusted(m *acme.Manager, name string) bool {
	_, err := handshake(m, &tls.Config{ServerName: name, RootCAs: w.ca.Roots})
	return err == nil
}

func (w *world) waitTrusted(m *acme.Manager, names ...string) {
	w.Helper()
	for _, name := range names {
		w.eventually(name+" has a real certificate", func() bool { return w.trusted(m, name) }, func() any { return status(m, name) })
	}
}

func status(m *acme.Manager, name string) acme.Certificate {
	for _, c := range m.Status() {
		if c.Host == name {
			return c
		}
	}
	return acme.Certificate{}
}

// eventually waits for ok, at most for a minute.
func (w *world) eventually(what string, ok func() bool, found func() any) {
	w.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("not within a minute: %s; found %+v", what, found())
		}
	}
}

// noTXT fails when a challenge record was left in the zone.
func (w *world) noTXT() {
	w.Helper()
	w.eventually("all TXT records are removed",
		func() bool { return len(w.cf.Records()) == 0 },
		func() any { return w.cf.Records() })
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// writeFile makes a file with the content and returns its path.
func writeFile(t *testing.T, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

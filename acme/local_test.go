package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"
)

// newManager starts a Manager that ends with the test.
func newManager(t *testing.T, o Options) *Manager {
	t.Helper()
	if o.Storage == "" {
		o.Storage = t.TempDir()
	}
	m, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return m
}

func localSettings() Settings { return Settings{Issuers: []Issuer{{CA: Local}}} }

func hosts(names ...string) []Subject {
	var all []Subject
	for _, name := range names {
		all = append(all, Subject{Names: []string{name}})
	}
	return all
}

// handshake connects to m over a real socket and returns what the client saw.
func handshake(t *testing.T, m *Manager, name string) (*x509.Certificate, error) {
	t.Helper()
	root, err := m.LocalRoot()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: m.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			c.(*tls.Conn).Handshake() // the client sees it
			c.Close()
		}
	}()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 20 * time.Second}, "tcp", ln.Addr().String(), &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// eventually waits for ok with a deadline.
func eventually(t *testing.T, what string, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func TestLocalCertificateAtOnce(t *testing.T) {
	t.Parallel()
	m := newManager(t, Options{})
	start := time.Now()
	m.Manage(localSettings(), hosts("blog.example.test", "*.wild.example.test"), nil)
	for _, name := range []string{"blog.example.test", "BLOG.example.test", "any.wild.example.test"} {
		if _, err := handshake(t, m, name); err != nil {
			t.Errorf("handshake(%q) = %v; want success", name, err)
		}
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("first handshakes took %s; want milliseconds", took)
	}
	for _, name := range []string{"other.example.test", "a.b.wild.example.test"} {
		if _, err := handshake(t, m, name); err == nil || err.Error() != "remote error: tls: unrecognized name" {
			t.Errorf("handshake(%q) = %v; want unrecognized name", name, err)
		}
	}
	eventually(t, "certmagic keeps both", 20*time.Second, func() bool {
		t := m.table.Load()
		return m.managed(t.orders["blog.example.test"]) != nil && m.managed(t.orders["*.wild.example.test"]) != nil
	})
	for _, c := range m.Status() {
		if c.State != StateLocal || c.Error != "" {
			t.Errorf("Status() has %+v; want state local without error", c)
		}
	}
}

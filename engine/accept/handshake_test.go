package accept_test

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"detour/engine/accept"
)

// certificate makes one for localhost.
func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, roots
}

func TestHandshake(t *testing.T) {
	cert, roots := certificate(t)
	client := func(c net.Conn) error {
		return tls.Client(c, &tls.Config{RootCAs: roots, ServerName: "localhost"}).Handshake()
	}
	says := func(text string) func(c net.Conn) error {
		return func(c net.Conn) error { _, err := io.WriteString(c, text); return err }
	}
	request := func(cookie int) func(c net.Conn) error {
		return says(fmt.Sprintf("GET / HTTP/1.1\r\nHost: a\r\nCookie: %s\r\n\r\n", strings.Repeat("x", cookie)))
	}
	panics := func() { panic("a bug") }
	const httpsOnly = "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks https only.\n"
	const panicked = `level=ERROR msg="TLS handshake panicked"`
	const ended = `level=DEBUG msg="TLS handshake ended"`
	tests := []struct {
		name   string
		conf   *tls.Config // nil = it has just the certificate
		client func(c net.Conn) error
		done   bool
		told   string // the client is, as far as it is not TLS
		logged string // part of the one line; "" = there is none
		limit  time.Duration
	}{
		{name: "done", client: client, done: true},
		{name: "silent", client: says(""), logged: ended, limit: 300 * time.Millisecond},
		{name: "another protocol", client: says("SSH-2.0-x\r\n"), logged: ended},
		{name: "plain HTTP", client: request(0), told: httpsOnly, logged: ended},
		// What is left unread must not have the answer reset.
		{name: "plain HTTP, at length", client: request(200_000), told: httpsOnly, logged: ended},
		{name: "GetConfigForClient panics", client: client, logged: panicked, conf: &tls.Config{
			GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { panics(); return nil, nil },
		}},
		{name: "GetCertificate panics", client: client, logged: panicked, conf: &tls.Config{
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panics(); return nil, nil },
		}},
		{name: "VerifyConnection panics", client: client, logged: panicked, conf: &tls.Config{
			VerifyConnection: func(tls.ConnectionState) error { panics(); return nil },
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			conf := &tls.Config{}
			if tt.conf != nil {
				conf = tt.conf
			}
			if conf.GetCertificate == nil {
				conf.Certificates = []tls.Certificate{cert}
			}
			l := listen(t)
			c := dial(t, l)
			raw, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			limit := cmp.Or(tt.limit, 20*time.Second)
			var log syncBuffer
			done := make(chan bool, 1)
			go func() {
				done <- accept.Handshake(t.Context(), tls.Server(raw, conf), raw, limit, log.logger())
			}()
			_ = tt.client(c)
			if !tt.done {
				b, err := io.ReadAll(c)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection is still open")
				}
				if tt.told != "" && (err != nil || string(b) != tt.told) {
					t.Errorf("the client got %q, %v; want %q, and a clean end", b, err, tt.told)
				}
			}
			if got := <-done; got != tt.done {
				t.Errorf("Handshake = %v; want %v", got, tt.done)
			}
			if got := log.String(); (got == "") != (tt.logged == "") || !strings.Contains(got, tt.logged) || strings.Count(got, "\n") > 1 {
				t.Errorf("logged %q; want %q", got, tt.logged)
			}
		})
	}
}

// A server that stops waits for no handshake.
func TestHandshakeEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := listen(t)
	c := dial(t, l)
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	time.AfterFunc(20*time.Millisecond, cancel)
	if accept.Handshake(ctx, tls.Server(raw, &tls.Config{}), raw, time.Hour, log.logger()) {
		t.Error("Handshake = true beside a silent client")
	}
	if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

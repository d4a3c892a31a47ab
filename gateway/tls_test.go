package gateway_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"detour/gateway"
)

// serverTLS is a gateway's TLS configuration with one name.
func serverTLS() *tls.Config {
	cert, _ := serverCertificate()
	return gateway.TLSConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName != name {
			return nil, nil
		}
		return &cert, nil
	})
}

func clientTLS(alpn ...string) *tls.Config {
	_, roots := serverCertificate()
	return &tls.Config{RootCAs: roots, ServerName: name, NextProtos: alpn}
}

func TestServerTLS(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), nil)

	conf := clientTLS("h2")
	conf.ServerName, conf.InsecureSkipVerify = "other.example.test", true
	if c, err := tls.Dial("tcp", s.addr, conf); err == nil {
		c.Close()
		t.Error("an unknown name was served; want a refused handshake")
	} else if !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("an unknown name got %v; want unrecognized name", err)
	}

	conf = clientTLS("h2")
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if c, err := tls.Dial("tcp", s.addr, conf); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}

	conf = clientTLS("h2")
	conf.MaxVersion = tls.VersionTLS12
	conf.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
	if c, err := tls.Dial("tcp", s.addr, conf); err == nil {
		c.Close()
		t.Error("a CBC suite was accepted")
	}

	c := s.dial(t, "h2")
	if got := c.ConnectionState(); got.CurveID != tls.X25519MLKEM768 || got.Version != tls.VersionTLS13 {
		t.Errorf("negotiated version %x, curve %v; want TLS 1.3, X25519MLKEM768", got.Version, got.CurveID)
	}
}

func TestServerResumesSessions(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), nil)
	conf := clientTLS("http/1.1")
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		c, err := tls.Dial("tcp", s.addr, conf)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+name+"\r\nConnection: close\r\n\r\n")
		io.Copy(io.Discard, c) // takes the ticket along
		if got := c.ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("connection %d: resumed = %v; want %v", i, got, i == 1)
		}
		c.Close()
	}
}

func TestServerTellsPlainHTTPClients(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), nil)
	res, err := http.Get("http://" + s.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("http on the https port: %s; want 400", res.Status)
	}
}

// What panics while a client greets ends the connection to that client alone.
func TestServerSurvivesPanicInHandshake(t *testing.T) {
	cert, _ := serverCertificate()
	s := serve(t, http.HandlerFunc(describe), func(o *gateway.ServerOptions) {
		o.TLS = gateway.TLSConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if hello.ServerName != name {
				panic("a bug")
			}
			return &cert, nil
		})
	})
	if c, err := tls.Dial("tcp", s.addr, &tls.Config{ServerName: "other.example.test"}); err == nil {
		c.Close()
		t.Error("the handshake of a panic was done")
	}
	res, err := s.client(t, "h1").Get("https://" + name + "/")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if n := strings.Count(s.log.String(), `level=ERROR msg="TLS handshake panicked"`); n != 1 {
		t.Errorf("%d lines about the panic; want 1\n%s", n, s.log)
	}
}

// A client that stays silent must neither keep others from being accepted nor
// stay for ever.
func TestServerHandshakesBesideEachOther(t *testing.T) {
	s := serve(t, http.HandlerFunc(describe), func(o *gateway.ServerOptions) { o.Limits.HandshakeTimeout = 2 * time.Second })
	var silent []net.Conn
	for range 50 {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	res, err := s.client(t, "h2").Get("https://" + name + "/")
	if err != nil {
		t.Fatalf("with 50 silent clients: %v", err)
	}
	res.Body.Close()
	for _, c := range silent {
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a silent client was not cut: %v", err)
		}
	}
	if strings.Contains(s.log.String(), "level=ERROR") || strings.Contains(s.log.String(), "level=INFO") {
		t.Errorf("failed handshakes are logged above debug:\n%s", s.log)
	}
}

package logging_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"detour/logging"
)

// site is a handler under AccessLog behind real TLS listeners, and its log.
type site struct {
	t     *testing.T
	files *logging.Files
	sink  *logging.Sink
	path  string
	tcp   *httptest.Server
}

func newSite(t *testing.T, h http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, path: filepath.Join(t.TempDir(), "blog.log")}
	s.files = logging.NewFiles(slog.New(slog.DiscardHandler))
	s.sink = s.files.Sink(logging.SinkOptions{Path: s.path, Name: "blog", RedactQuery: []string{"token", "password"}})
	s.tcp = httptest.NewUnstartedServer(logging.AccessLog(h, func() *logging.Sink { return s.sink }))
	s.tcp.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.tcp.EnableHTTP2 = true
	s.tcp.StartTLS()
	t.Cleanup(func() {
		s.tcp.Close()
		s.files.Close()
	})
	return s
}

// client returns a client that speaks proto ("h1", "h2", "h3"), and the URL.
func (s *site) client(proto string) (*http.Client, string) {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.tcp.Certificate())
	conf := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	noFollow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if proto == "h3" {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			s.t.Fatal(err)
		}
		server := &http3.Server{
			Handler:   s.tcp.Config.Handler,
			TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: s.tcp.TLS.Certificates}),
			Logger:    slog.New(slog.DiscardHandler),
		}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(udp) }()
		transport := &http3.Transport{TLSClientConfig: conf}
		s.t.Cleanup(func() {
			transport.Close()
			server.Close()
			udp.Close()
			<-done
		})
		return &http.Client{Transport: transport, CheckRedirect: noFollow}, "https://" + udp.LocalAddr().String()
	}
	transport := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: proto == "h2"}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: noFollow}, s.tcp.URL
}

// entry is what the tests look at in a line.
type entry struct {
	Level   string  `json:"level"`
	TS      float64 `json:"ts"`
	Logger  string  `json:"logger"`
	Msg     string  `json:"msg"`
	Request struct {
		RemoteIP   string              `json:"remote_ip"`
		RemotePort string              `json:"remote_port"`
		ClientIP   string              `json:"client_ip"`
		Proto      string              `json:"proto"`
		Method     string              `json:"method"`
		Host       string              `json:"host"`
		URI        string              `json:"uri"`
		Headers    map[string][]string `json:"headers"`
		TLS        *struct {
			Resumed     bool   `json:"resumed"`
			Version     int    `json:"version"`
			CipherSuite int    `json:"cipher_suite"`
			Proto       string `json:"proto"`
			ServerName  string `json:"server_name"`
			ECH         bool   `json:"ech"`
		} `json:"tls"`
	} `json:"request"`
	BytesRead   int64               `json:"bytes_read"`
	UserID      string              `json:"user_id"`
	Duration    float64             `json:"duration"`
	Size        int64               `json:"size"`
	Status      int                 `json:"status"`
	RespHeaders map[string][]string `json:"resp_headers"`
	Action      string              `json:"action"`
	Upstream    string              `json:"upstream"`
	RequestID   string              `json:"request_id"`
	Connection  string              `json:"connection"`
	Error       string              `json:"error"`
}

// lines waits until n lines are in the log and returns them.
func (s *site) lines(n int) []entry {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		s.files.Reopen() // flushes
		data, err := os.ReadFile(s.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.t.Fatal(err)
		}
		if got := bytes.Count(data, []byte("\n")); got >= n {
			if got > n {
				s.t.Fatalf("%d lines; want %d:\n%s", got, n, data)
			}
			return parse(s.t, data)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("log has not got %d lines:\n%s", n, data)
		}
		time.Sleep(time.Millisecond)
	}
}

func parse(t *testing.T, data []byte) []entry {
	t.Helper()
	var all []entry
	for line := range bytes.Lines(data) {
		var e entry
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

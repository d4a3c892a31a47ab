package acme_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"detour/test/pebble"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// TestRenewalWithOpenStreams renews a certificate of 30 seconds while a stream is
// open on each protocol and new connections keep coming. The name is its own:
// certmagic's schedule of failed renewals is one for the process, by name.
func TestRenewalWithOpenStreams(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	t.Parallel()
	w := newWorld(t, pebble.Options{Validity: 30 * time.Second})
	m := w.start()
	m.Manage(w.settings, hosts("renewed.example.test"), nil)
	w.waitTrusted(m, "renewed.example.test")
	first, _ := served(m, "renewed.example.test")

	stop := make(chan struct{})
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for i := 0; ; i++ {
			fmt.Fprintln(rw, i)
			rw.(http.Flusher).Flush()
			select {
			case <-stop:
				return
			case <-r.Context().Done():
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	tcp, udp := serveAll(t, &tls.Config{GetCertificate: m.GetCertificate}, handler)
	trust := &tls.Config{RootCAs: w.ca.Roots, ServerName: "renewed.example.test"}
	url := "https://renewed.example.test/"
	h1 := &http.Transport{TLSClientConfig: trust.Clone(), DialContext: dialTo(tcp), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: trust.Clone(), DialContext: dialTo(tcp), ForceAttemptHTTP2: true}
	h3 := &http3.Transport{TLSClientConfig: trust.Clone(), Dial: dialQUIC(udp)}
	defer h1.CloseIdleConnections()
	defer h2.CloseIdleConnections()
	defer h3.Close()

	lines := map[string]*atomic.Int64{}
	broken := make(chan error, 3)
	for proto, transport := range map[string]http.RoundTripper{"HTTP/1.1": h1, "HTTP/2.0": h2, "HTTP/3.0": h3} {
		count := new(atomic.Int64)
		lines[proto] = count
		resp, err := (&http.Client{Transport: transport}).Get(url)
		if err != nil {
			t.Fatalf("%s: %v", proto, err)
		}
		if resp.Proto != proto {
			t.Fatalf("got %s; want %s", resp.Proto, proto)
		}
		go func() {
			defer resp.Body.Close()
			want := 0
			for scan := bufio.NewScanner(resp.Body); ; want++ {
				if !scan.Scan() {
					select {
					case <-stop:
						broken <- nil
					default:
						broken <- fmt.Errorf("%s stream ended after %d lines: %v", proto, want, scan.Err())
					}
					return
				}
				if scan.Text() != fmt.Sprint(want) {
					broken <- fmt.Errorf("%s stream: got line %q; want %d", proto, scan.Text(), want)
					return
				}
				count.Add(1)
			}
		}()
	}

	handshakes, leaves := 0, map[string]bool{}
	renewed := time.Time{}
	for end := time.Now().Add(40 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", tcp, trust)
		if err != nil {
			t.Fatalf("handshake %d: %v", handshakes, err)
		}
		handshakes++
		leaf := c.ConnectionState().PeerCertificates[0]
		c.Close()
		leaves[leaf.SerialNumber.String()] = true
		if renewed.IsZero() && !leaf.Equal(first) {
			renewed = time.Now()
		}
		// Two more seconds on the new certificate show that the streams live on.
		if !renewed.IsZero() && time.Since(renewed) > 2*time.Second {
			break
		}
	}
	if len(leaves) < 2 {
		t.Errorf("%d certificates were served; want a renewed one", len(leaves))
	}
	close(stop)
	for range 3 {
		if err := <-broken; err != nil {
			t.Error(err)
		}
	}
	for proto, n := range lines {
		if n.Load() < 100 {
			t.Errorf("%s stream had %d lines; want a stream over the renewal", proto, n.Load())
		}
	}
	if left := time.Until(first.NotAfter); left < 0 {
		t.Errorf("renewed %s after the end of the first certificate", -left)
	}
	t.Logf("%d handshakes, %d certificates", handshakes, len(leaves))
}

// serveAll serves handler over HTTP/1.1 and 2 on TCP and HTTP/3 on UDP and
// returns the addresses.
func serveAll(t *testing.T, conf *tls.Config, handler http.Handler) (tcp, udp string) {
	t.Helper()
	conf.NextProtos = []string{"h2", "http/1.1"}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, TLSConfig: conf}
	go server.ServeTLS(ln, "", "") // ends with Close
	t.Cleanup(func() { server.Close() })
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server3 := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{GetCertificate: conf.GetCertificate})}
	go server3.Serve(conn) // ends with Close
	t.Cleanup(func() { server3.Close(); conn.Close() })
	return ln.Addr().String(), conn.LocalAddr().String()
}

func dialTo(addr string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
}

func dialQUIC(addr string) func(context.Context, string, *tls.Config, *quic.Config) (*quic.Conn, error) {
	return func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
		return quic.DialAddr(ctx, addr, t, q)
	}
}

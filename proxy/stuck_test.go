package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// An upstream that hangs takes nothing of a body, and so a client of HTTP/1 that
// gives up is not noticed. It must end all the same.
func TestStuckUpload(t *testing.T) {
	cert, _ := testCertificate()
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			hang := make(chan struct{})
			addr := startRawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
				if scheme == "https" && tls.Server(conn, conf).Handshake() != nil {
					return
				}
				<-hang
			})
			t.Cleanup(func() { close(hang) })
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{
				Scheme: scheme, Address: addr, Insecure: true, ResponseTimeout: 300 * time.Millisecond,
			}})
			conn := r.dial(t, "http/1.1")
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 1000000000\r\n\r\n")
			go io.Copy(conn, new(zeros))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || res.StatusCode != http.StatusGatewayTimeout {
				t.Fatalf("answer %v, %v; want 504", res, err)
			}
			conn.Close()
			eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
			if got := r.accessLog(t, 1)[0]["status"]; got != 504.0 {
				t.Errorf("logged status %v; want 504", got)
			}
			if message, _ := r.route.Stats.LastError(); !strings.Contains(message, "timeout") {
				t.Errorf("last error %q; want a timeout", message)
			}
		})
	}
}

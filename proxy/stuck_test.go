package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// An upstream that hangs takes nothing of a body, and so a client of HTTP/1 that
// gives up is not noticed. It must end all the same.
func TestStuckUpload(t *testing.T) {
	for _, upstream := range []string{"http", "https", "h2c", "https, HTTP/2"} {
		t.Run(upstream, func(t *testing.T) {
			scheme, _, _ := strings.Cut(upstream, ",")
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{
				Scheme: scheme, Address: startHangingUpstream(t, upstream), Insecure: true, ResponseTimeout: 300 * time.Millisecond,
			}})
			conn := r.dial(t, "http/1.1")
			conn.SetDeadline(time.Now().Add(20 * time.Second))
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
			for _, protocol := range []string{"h2", "h3"} {
				req := newRequest(t, http.MethodPost, "https://"+host+"/", io.LimitReader(new(zeros), 1e9))
				if res, err := r.client(t, protocol).Do(req); err != nil || res.StatusCode != http.StatusGatewayTimeout {
					t.Errorf("%s: answer %v, %v; want 504", protocol, res, err)
				}
			}
		})
	}
}

// An upstream that has taken all and does not answer is not said to have taken
// nothing.
func TestSilenceAfterUpload(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		hang := make(chan struct{})
		up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-hang
		}))
		up.Config.Protocols = new(http.Protocols)
		up.Config.Protocols.SetHTTP1(true)
		up.Config.Protocols.SetUnencryptedHTTP2(true)
		up.Start()
		t.Cleanup(func() {
			close(hang)
			up.Close()
		})
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{
			Scheme: scheme, Address: up.Listener.Addr().String(), ResponseTimeout: 500 * time.Millisecond,
		}})
		req := newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("hello"))
		if res, err := r.client(t, "h2").Do(req); err != nil || res.StatusCode != http.StatusGatewayTimeout {
			t.Fatalf("%s: answer %v, %v; want 504", scheme, res, err)
		}
		if message, _ := r.route.Stats.LastError(); strings.Contains(message, "took nothing") {
			t.Errorf("%s: last error %q; want that of the missing answer", scheme, message)
		}
	}
}

// startHangingUpstream accepts connections, and streams, and reads nothing of them.
func startHangingUpstream(t *testing.T, kind string) string {
	hang := make(chan struct{})
	cert, _ := testCertificate()
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if kind == "http" || kind == "https" {
		addr := startRawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
			if kind == "https" && tls.Server(conn, conf).Handshake() != nil {
				return
			}
			<-hang
		})
		t.Cleanup(func() { close(hang) })
		return addr
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Protocols: new(http.Protocols), TLSConfig: conf, Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang })}
	t.Cleanup(func() {
		close(hang)
		srv.Close()
	})
	if kind == "h2c" {
		srv.Protocols.SetUnencryptedHTTP2(true)
		go srv.Serve(ln)
	} else {
		srv.Protocols.SetHTTP2(true)
		conf.NextProtos = nil
		go srv.ServeTLS(ln, "", "")
	}
	return ln.Addr().String()
}

package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A broken answer never looks like a whole one.
func TestUpstreamBreaksOff(t *testing.T) {
	for name, answer := range map[string]string{
		"content length":  "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
		"chunked":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
		"inside a chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\npart",
		"nothing of it":   "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
		"before a chunk":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"compressible":    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
		"compressible CL": "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000000\r\n\r\npart",
	} {
		t.Run(name, func(t *testing.T) {
			addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				http.ReadRequest(br)
				io.WriteString(conn, answer)
			})
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}, route: func(rt *Route) { rt.Compress = true }})
			n := 0
			eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
				req := newRequest(t, http.MethodGet, url+"/", nil)
				req.Header.Set("Accept-Encoding", "gzip")
				res, err := c.Do(req)
				if err == nil {
					_, err = io.ReadAll(res.Body)
					res.Body.Close()
				}
				if err == nil {
					t.Error("the answer looks whole")
				}
				n++
				if line := r.accessLog(t, n)[n-1]; line["error"] == nil {
					t.Errorf("log line without an error: %v", line)
				}
			})
			if e, _ := r.route.Stats.LastError(); e == "" {
				t.Error("LastError = none; want why")
			}
		})
	}
}

// An answer that breaks off while it is held back for compression is not even
// begun: its client gets an error page and nothing of it.
func TestUpstreamBreaksOffWhileHeld(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\nSet-Cookie: a=b\r\nCache-Control: max-age=60\r\nX-App: 1\r\n\r\npart")
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}, route: func(rt *Route) {
		rt.Compress = true
		rt.Headers = []HeaderEdit{{"X-App", "ours"}}
	}})
	n := 0
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		req := newRequest(t, http.MethodGet, url+"/", nil)
		req.Header.Set("Accept-Encoding", "gzip")
		res, body := do(t, c, req)
		h := res.Header
		if res.StatusCode != http.StatusBadGateway || !strings.Contains(body, "not answering") || h.Get("Cache-Control") != "no-store" {
			t.Errorf("answer %d %v %q; want the page of a 502", res.StatusCode, h, body)
		}
		if h.Get("X-App") != "ours" || h["Set-Cookie"] != nil || h["Via"] != nil || h["Vary"] != nil || (h["Alt-Svc"] == nil) != (res.ProtoMajor == 3) {
			t.Errorf("header %v; want ours and nothing of the upstream's", h)
		}
		n++
		if line := r.accessLog(t, n)[n-1]; line["status"] != 502.0 || line["error"] == nil {
			t.Errorf("log line %v; want status 502 and why", line)
		}
	})
	if e, _ := r.route.Stats.LastError(); e == "" {
		t.Error("LastError = none; want why")
	}
}

func TestFailures(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	answering := func(s string) string {
		return startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
			http.ReadRequest(br)
			io.WriteString(conn, s)
		})
	}
	for _, tc := range []struct {
		name     string
		upstream UpstreamOptions
		want     int
	}{
		{"refused", UpstreamOptions{Scheme: "http", Address: dead.Addr().String()}, 502},
		{"closed without an answer", UpstreamOptions{Scheme: "http", Address: answering("")}, 502},
		{"not HTTP", UpstreamOptions{Scheme: "http", Address: answering("SSH-2.0-OpenSSH\r\n")}, 502},
		{"half a header", UpstreamOptions{Scheme: "http", Address: answering("HTTP/1.1 200 OK\r\nX: ")}, 502},
		{"two lengths", UpstreamOptions{Scheme: "http", Address: answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab")}, 502},
		{"no such name", UpstreamOptions{Scheme: "http", Address: "nothing.invalid:80"}, 502},
		{"no socket", UpstreamOptions{Scheme: "unix", Address: filepath.Join(t.TempDir(), "none")}, 502},
		{"strange certificate", UpstreamOptions{Scheme: "https", Address: startTLSUpstream(t, http.NotFoundHandler())}, 502},
		{"not TLS", UpstreamOptions{Scheme: "https", Address: startUpstream(t, http.NotFoundHandler()), Insecure: true}, 502},
		{"silence", UpstreamOptions{Scheme: "http", Address: startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) }), ResponseTimeout: 50 * time.Millisecond}, 504},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, nil, rigOptions{upstream: tc.upstream})
			eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
				res, body := get(t, c, url+"/")
				if res.StatusCode != tc.want || !strings.Contains(body, "Request:") {
					t.Errorf("= %d %q; want %d and a page with the request's id", res.StatusCode, body, tc.want)
				}
			})
			if e, at := r.route.Stats.LastError(); e == "" || time.Since(at) > time.Minute {
				t.Errorf("LastError = %q at %v; want why and now", e, at)
			}
		})
	}
	if got := failureStatus(&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}); got != 504 {
		t.Errorf("failureStatus(dial timeout) = %d; want 504", got)
	}
}

package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An upstream that breaks off in the middle of a body must not look like one
// that finished: the client's stream ends with an error, whichever way the
// body came and the client goes, and the next request is served.
func TestTruncatedBodies(t *testing.T) {
	const large = 1 << 20
	half := bytes.Repeat([]byte("half of it. "), large/12)
	breaksOff := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/whole" {
			io.WriteString(w, r.Proto)
			return
		}
		sent := 500
		if strings.Contains(r.URL.Path, "large") {
			sent = len(half)
		}
		if strings.HasSuffix(r.URL.Path, "/sized") {
			w.Header().Set("Content-Length", fmt.Sprint(2*sent))
		}
		w.Header().Set("Content-Type", "text/plain") // may be compressed
		if strings.Contains(r.URL.Path, "/none") {
			sent = 0
		}
		w.Write(half[:sent])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	upstreams := truncatedUpstreams(t, breaksOff)
	var hosts strings.Builder
	hosts.WriteString("[hosts]\n")
	for kind, line := range upstreams {
		fmt.Fprintf(&hosts, "%s = { %s }\n", kind, line)
	}
	r := start(t, hosts.String())

	for kind := range upstreams {
		for _, protocol := range protocols {
			c := r.client(t, protocol)
			for _, path := range []string{"/sized", "/unsized", "/none/sized", "/none/unsized", "/large/sized", "/large/unsized"} {
				for _, encoding := range []string{"identity", "gzip", "zstd"} {
					t.Run(kind+"/"+protocol+path+"/"+encoding, func(t *testing.T) {
						ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
						defer cancel()
						req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+kind+".example.test"+path, nil)
						if err != nil {
							t.Fatal(err)
						}
						req.Header.Set("Accept-Encoding", encoding)
						resp, err := c.Do(req)
						if err == nil {
							var n int64
							n, err = io.Copy(io.Discard, resp.Body)
							resp.Body.Close()
							if err == nil && resp.StatusCode == http.StatusOK {
								t.Errorf("got a whole answer of %d bytes; want an error", n)
							}
						}
						if ctx.Err() != nil {
							t.Errorf("the client was left waiting: %v", err)
						}
					})
				}
			}
			got, err := get(t.Context(), c, "https://"+kind+".example.test/whole")
			want := answer{Status: http.StatusOK, Body: "HTTP/1.1"}
			if kind == "h2c" || kind == "https2" {
				want.Body = "HTTP/2.0"
			}
			if got != want || err != nil {
				t.Errorf("%s/%s: afterwards %v, %v; want %v, nil", kind, protocol, got, err, want)
			}
		}
	}
}

// truncatedUpstreams serve h in every way that an upstream can be spoken to.
// They are returned as what a host's table says of them.
func truncatedUpstreams(t *testing.T, h http.Handler) map[string]string {
	t.Helper()
	serve := func(edit func(s *httptest.Server)) string {
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetHTTP1(true)
		edit(s)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	plain := func(s *httptest.Server) { s.Start() }
	socket := filepath.Join(t.TempDir(), "up.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	serve(func(s *httptest.Server) {
		s.Listener.Close()
		s.Listener = ln
		s.Start()
	})
	const anyCertificate = ", upstream_tls.insecure = true"
	return map[string]string{
		"http": fmt.Sprintf("upstream = %q", serve(plain)),
		"unix": fmt.Sprintf("upstream = %q", "unix/"+socket),
		"h2c": fmt.Sprintf("upstream = %q", "h2c://"+serve(func(s *httptest.Server) {
			s.Config.Protocols.SetUnencryptedHTTP2(true)
			s.Start()
		})),
		"https1": fmt.Sprintf("upstream = %q"+anyCertificate, "https://"+serve(func(s *httptest.Server) { s.StartTLS() })),
		"https2": fmt.Sprintf("upstream = %q"+anyCertificate, "https://"+serve(func(s *httptest.Server) {
			s.Config.Protocols.SetHTTP2(true)
			s.EnableHTTP2 = true
			s.StartTLS()
		})),
	}
}

package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestResponseHeader(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nConnection: X-Private\r\nX-Private: 1\r\nKeep-Alive: 5\r\n"+
			"Upgrade: h2\r\nAlt-Svc: h3=\":1\"\r\nProxy-Authenticate: Basic\r\nVia: 1.0 fred\r\nX-Powered-By: PHP\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"+
			"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok")
	})
	r := newRig(t, nil, rigOptions{
		upstream: UpstreamOptions{Scheme: "http", Address: addr},
		route: func(rt *Route) {
			rt.Headers = []HeaderEdit{{"Strict-Transport-Security", "max-age=1"}, {"x-powered-by", ""}}
		},
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, body := get(t, c, url+"/")
		want := http.Header{
			"Via":                       {"1.0 fred", "1.1 detour"},
			"Set-Cookie":                {"a=1", "b=2"},
			"Date":                      {"Thu, 01 Jan 1970 00:00:00 GMT"},
			"Content-Length":            {"2"},
			"Strict-Transport-Security": {"max-age=1"},
		}
		if res.ProtoMajor < 3 {
			want["Alt-Svc"] = []string{`h3=":443"; ma=2592000`}
		}
		if diff := cmp.Diff(want, res.Header); diff != "" || body != "ok" {
			t.Errorf("answer %q, header (-want +got):\n%s", body, diff)
		}
	})
}

// A 426 says what to upgrade to (RFC 9110, 15.5.22), where there is an upgrade.
func TestUpgradeRequired(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "TLS/1.3, websocket")
		w.WriteHeader(http.StatusUpgradeRequired)
	}), rigOptions{})
	check := func(t *testing.T, res *http.Response, upgrade, connection []string) {
		t.Helper()
		if got := res.Header; res.StatusCode != 426 || !slices.Equal(got["Upgrade"], upgrade) || !slices.Equal(got["Connection"], connection) {
			t.Errorf("= %d, Upgrade %q, Connection %q; want 426, %q and %q", res.StatusCode, got["Upgrade"], got["Connection"], upgrade, connection)
		}
	}
	named := []string{"TLS/1.3, websocket"}
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, _ := get(t, c, url+"/")
		if res.ProtoMajor == 1 {
			check(t, res, named, []string{"Upgrade"})
		} else {
			check(t, res, nil, nil)
		}
	})
	t.Run("to a WebSocket", func(t *testing.T) {
		res, _ := r.raw(t, "GET / HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 7\n\n")
		check(t, res, named, []string{"Upgrade"})
	})
	t.Run("with a body on its way", func(t *testing.T) {
		res, _ := r.raw(t, "POST / HTTP/1.1\nHost: "+host+"\nContent-Length: 9000000\n\n")
		check(t, res, named, nil) // http.ReadResponse takes a Connection field with a close away
		if !res.Close {
			t.Error("the connection lives on, with the rest of the body to come")
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		res, _ := r.raw(t, "GET / HTTP/1.0\nHost: "+host+"\n\n")
		check(t, res, nil, nil)
	})
}

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

// A kept-alive connection that is dead is no reason to fail, but a request
// that may have had an effect is not repeated.
func TestRetries(t *testing.T) {
	for _, tc := range []struct {
		method, body string
		want         int
	}{
		{"GET", "", 200}, {"HEAD", "", 200}, {"OPTIONS", "", 200}, {"DELETE", "", 200}, {"PUT", "", 200}, {"PROPFIND", "", 200},
		{"POST", "x", 502}, {"PUT", "x", 502}, {"PATCH", "x", 502}, {"POST", "", 502},
	} {
		t.Run(tc.method+tc.body, func(t *testing.T) {
			var seen atomic.Int32
			addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				for i := 0; ; i++ {
					req, err := http.ReadRequest(br)
					if err != nil {
						return
					}
					seen.Add(1)
					if i > 0 && req.URL.Path == "/dies" {
						return // having read all of the request
					}
					io.Copy(io.Discard, req.Body)
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
			c := r.client(t, "h2")
			get(t, c, "https://"+host+"/")
			do(t, c, newRequest(t, tc.method, "https://"+host+"/", strings.NewReader(tc.body))) // so that there is a connection for these
			res, _ := do(t, c, newRequest(t, tc.method, "https://"+host+"/dies", strings.NewReader(tc.body)))
			sent := int32(3)
			if tc.want == 200 {
				sent = 4
			}
			if res.StatusCode != tc.want || seen.Load() != sent {
				t.Errorf("= %d, upstream saw %d requests; want %d, %d", res.StatusCode, seen.Load(), tc.want, sent)
			}
		})
	}
	t.Run("a fresh connection", func(t *testing.T) {
		var seen atomic.Int32
		addr := startRawUpstream(t, func(_ net.Conn, br *bufio.Reader) {
			http.ReadRequest(br)
			seen.Add(1)
		})
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
		if res, _ := get(t, r.client(t, "h1"), "https://"+host+"/"); res.StatusCode != 502 || seen.Load() != 1 {
			t.Errorf("= %d, upstream saw %d requests; want 502, 1", res.StatusCode, seen.Load())
		}
	})
}

// An upstream of HTTP/1 may close a connection just as it is used again after a
// rest, so a request that must not be repeated is sent on none that rested. On
// HTTP/2 it would say what it did not look at.
func TestNoPostOnARestedConnection(t *testing.T) {
	for kind, apart := range map[string]bool{"https": true, "https, HTTP/2": false} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := startUpstreamOf(t, kind, time.Minute, func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				io.WriteString(w, r.RemoteAddr)
			})
			r := newRig(t, nil, o)
			c := r.client(t, "h2")
			post := func() string {
				_, from := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("form")))
				return from
			}
			_, kept := get(t, c, "https://"+host+"/")
			first := post()
			if (first != kept) != apart || post() != first {
				t.Fatalf("POST on %s, GET on %s, and the next POST elsewhere", first, kept)
			}
			if !apart {
				return
			}
			time.Sleep(onceIdleTimeout + onceIdleTimeout/2)
			if again := post(); again == first {
				t.Error("POST on a connection that rested")
			}
			if _, again := get(t, c, "https://"+host+"/"); again != kept {
				t.Error("GET on a new connection; want the one that rested")
			}
		})
	}
}

// Events, bodies of unknown length and their headers arrive as they are made.
func TestFlush(t *testing.T) {
	next := make(chan bool)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		w.Header().Set("Content-Type", r.URL.Query().Get("type"))
		rc.Flush()
		for i := range 3 {
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
			rc.Flush()
		}
	})
	for _, compress := range []bool{false, true} {
		r := newRig(t, h, rigOptions{route: func(rt *Route) { rt.Compress = compress }})
		for _, kind := range []string{"text/event-stream", "text/html", "application/octet-stream"} {
			t.Run(fmt.Sprintf("%s compress=%v", kind, compress), func(t *testing.T) {
				eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
					req := newRequest(t, http.MethodGet, url+"/?type="+kind, nil)
					req.Header.Set("Accept-Encoding", "gzip")
					res, err := c.Do(req) // returns before the first event is made
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					next <- true
					var body io.Reader = res.Body
					if res.Header.Get("Content-Encoding") == "gzip" {
						if body, err = gzip.NewReader(body); err != nil {
							t.Fatal(err)
						}
					}
					br := bufio.NewReader(body)
					for i := range 3 {
						if i > 0 {
							next <- true
						}
						if line, err := br.ReadString('\n'); err != nil || line != fmt.Sprintf("data: %d\n", i) {
							t.Fatalf("event %d = %q, %v", i, line, err)
						}
						br.ReadString('\n')
					}
					if rest, err := io.ReadAll(br); err != nil || len(rest) > 0 {
						t.Errorf("at the end: %q, %v; want a clean end", rest, err)
					}
				})
			})
		}
	}
}

// pieces is a body that comes piece by piece, and tells what each was read into.
type pieces struct {
	sizes []int
	into  []int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.into = append(p.into, len(b))
	if len(p.sizes) == 0 {
		return 0, io.EOF
	}
	n := min(p.sizes[0], len(b))
	if p.sizes[0] -= n; p.sizes[0] == 0 {
		p.sizes = p.sizes[1:]
	}
	return n, nil
}

func (p *pieces) Close() error { return nil }

// A stream of events that waits for the next one holds little, whatever it had
// in its hands before; other bodies are read in large pieces at once.
func TestSilentEventsHoldLittle(t *testing.T) {
	const large = 64 << 10
	for _, tt := range []struct {
		contentType string
		want        []int
	}{
		{"text/event-stream", []int{idleBuffer, idleBuffer, idleBuffer, large, large, idleBuffer}},
		{"text/html", []int{large, large, large, large, large}},
	} {
		body := &pieces{sizes: []int{20, 30, 40 << 10, 50}}
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"}, rt: func(UpstreamOptions) http.RoundTripper {
			return roundTripperFunc(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1, Body: body,
					Header: http.Header{"Content-Type": {tt.contentType}}}, nil
			})
		}})
		if res, got := get(t, r.client(t, "h2"), "https://"+host+"/"); res.StatusCode != 200 || len(got) != 40<<10+100 {
			t.Fatalf("%s: %d, %d bytes; want 200, all", tt.contentType, res.StatusCode, len(got))
		}
		if diff := cmp.Diff(tt.want, body.into); diff != "" {
			t.Errorf("%s is read into buffers of other sizes: -want +got\n%s", tt.contentType, diff)
		}
	}
}

// What the upstream announced and did not send is not sent: a field of that
// name in its header is no trailer.
func TestAnnouncedTrailerIsNotSent(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			head := "HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Other\r\nX-Sum: header\r\nX-Other: header\r\nTransfer-Encoding: chunked\r\n\r\n"
			if req.Method == http.MethodHead {
				io.WriteString(conn, head)
			} else {
				io.WriteString(conn, head+"4\r\nbody\r\n0\r\nX-Other: trailer\r\n\r\n")
			}
		}
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, _ := get(t, c, url+"/")
		if got := res.Trailer; got.Get("X-Sum") != "" || got.Get("X-Other") != "trailer" {
			t.Errorf("trailers = %v; want X-Other alone", got)
		}
		if h := res.Header; res.ProtoMajor < 3 && h.Get("X-Sum") != "header" { // quic-go takes it for the trailer
			t.Errorf("header = %v; want X-Sum in it", h)
		}
		if res, _ := do(t, c, newRequest(t, http.MethodHead, url+"/", nil)); len(res.Trailer) > 0 {
			t.Errorf("trailers of a HEAD = %v; want none", res.Trailer)
		}
	})
}

func TestResponseTrailers(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/announced" {
			w.Header().Set("Trailer", "X-Sum")
		}
		if r.URL.Query().Has("body") {
			io.WriteString(w, "body")
		}
		http.NewResponseController(w).Flush()
		if r.URL.Path == "/announced" {
			w.Header().Set("X-Sum", "42")
		} else {
			w.Header().Set(http.TrailerPrefix+"X-Sum", "42")
		}
	}), rigOptions{route: func(rt *Route) { rt.Compress = true }})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, path := range []string{"/announced?body", "/announced", "/unannounced?body", "/unannounced"} {
			res, _ := get(t, c, url+path)
			if got := res.Trailer.Get("X-Sum"); got != "42" {
				t.Errorf("%s: trailer = %v; want X-Sum: 42", path, res.Trailer)
			}
		}
	})
}

// Answers without a body keep the header of the one that a GET would get.
func TestBodilessAnswers(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"x"`)
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		default:
			w.Header().Set("Content-Length", "1000")
		}
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, path := range []string{"/204", "/304"} {
			if res, body := get(t, c, url+path); "/"+fmt.Sprint(res.StatusCode) != path || body != "" || res.Header.Get("Etag") != `"x"` {
				t.Errorf("%s = %d %q %v", path, res.StatusCode, body, res.Header)
			}
		}
		if res, _ := do(t, c, newRequest(t, http.MethodHead, url+"/", nil)); res.Header.Get("Content-Length") != "1000" {
			t.Errorf("HEAD: Content-Length = %q; want 1000", res.Header.Get("Content-Length"))
		}
	})
}

func TestLargeBodies(t *testing.T) {
	const size = 5 << 20
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Length", fmt.Sprint(n))
		io.CopyN(w, zeroReader{}, n)
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, body := do(t, c, newRequest(t, http.MethodPost, url+"/", bytes.NewReader(make([]byte, size))))
		if res.ContentLength != size || len(body) != size {
			t.Errorf("echo of %d bytes: Content-Length %d, %d bytes", size, res.ContentLength, len(body))
		}
	})
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Content types are never guessed.
func TestNoContentTypeIsInvented(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		io.WriteString(w, "<html>")
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		if res, _ := get(t, c, url+"/"); res.Header["Content-Type"] != nil {
			t.Errorf("Content-Type = %q; want none", res.Header["Content-Type"])
		}
	})
}

func TestUpstreamSchemes(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	socket := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	onSocket := &httptest.Server{Listener: ln, Config: &http.Server{Handler: h}}
	onSocket.Start()
	t.Cleanup(onSocket.Close)

	h2c := httptest.NewUnstartedServer(h)
	h2c.Config.Protocols = new(http.Protocols)
	h2c.Config.Protocols.SetUnencryptedHTTP2(true)
	h2c.Start()
	t.Cleanup(h2c.Close)

	secure := startTLSUpstream(t, h)
	for _, tc := range []struct {
		name, want string
		o          UpstreamOptions
	}{
		{"http", "HTTP/1.1", UpstreamOptions{Scheme: "http", Address: startUpstream(t, h)}},
		{"unix", "HTTP/1.1", UpstreamOptions{Scheme: "unix", Address: socket}},
		{"h2c", "HTTP/2.0", UpstreamOptions{Scheme: "h2c", Address: h2c.Listener.Addr().String()}},
		{"https with roots", "HTTP/2.0", UpstreamOptions{Scheme: "https", Address: secure, RootsPEM: testRootsPEM()}},
		{"https with a name", "HTTP/2.0", UpstreamOptions{Scheme: "https", Address: secure, RootsPEM: testRootsPEM(), ServerName: "example.test"}},
		{"https insecure", "HTTP/2.0", UpstreamOptions{Scheme: "https", Address: secure, Insecure: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, nil, rigOptions{upstream: tc.o})
			eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
				if res, body := get(t, c, url+"/"); res.StatusCode != 200 || body != tc.want {
					t.Errorf("= %d %q; want 200 %q", res.StatusCode, body, tc.want)
				}
			})
		})
	}
	for _, o := range []UpstreamOptions{{Scheme: "ftp", Address: "x"}, {Scheme: "https", Address: "x", RootsPEM: "nonsense"}} {
		if _, err := NewUpstream(o, nil); err == nil {
			t.Errorf("NewUpstream(%+v) = nil error; want one", o)
		}
	}
}

func TestUpstreamSettings(t *testing.T) {
	u, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: "10.1.1.4", ResponseTimeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := u.String(); got != "10.1.1.4:80" {
		t.Errorf("String() = %q; want 10.1.1.4:80", got)
	}
	transport, upgrades := u.transport.(*http.Transport), u.upgrades.(*http.Transport)
	if transport.Proxy != nil || upgrades.Proxy != nil {
		t.Error("HTTP_PROXY would be asked")
	}
	if c := transport.HTTP2; c != nil && c.SendPingTimeout != 0 {
		t.Error("a gRPC server would end connections, with their calls, for PINGs")
	}
	if transport.ResponseHeaderTimeout != time.Minute || upgrades.ResponseHeaderTimeout != 0 {
		t.Errorf("response header timeouts = %v, %v; want 1m, none for upgrades", transport.ResponseHeaderTimeout, upgrades.ResponseHeaderTimeout)
	}
	if transport.MaxIdleConnsPerHost != 256 || transport.IdleConnTimeout != 2*time.Minute || !transport.DisableCompression {
		t.Errorf("idle %d for %v, DisableCompression %v; want 256 for 2m, true", transport.MaxIdleConnsPerHost, transport.IdleConnTimeout, transport.DisableCompression)
	}
}

// A retired upstream closes what is idle and still serves.
func TestRetire(t *testing.T) {
	closed := make(chan bool, 4)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateClosed {
			closed <- true
		}
	}
	srv.Start()
	defer srv.Close()
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: srv.Listener.Addr().String()}})
	c := r.client(t, "h1")
	for range 2 {
		if res, _ := get(t, c, "https://"+host+"/"); res.StatusCode != 200 {
			t.Fatalf("= %d; want 200", res.StatusCode)
		}
		r.route.Pool.Members()[0].Retire()
		select {
		case <-closed:
		case <-time.After(5 * time.Second):
			t.Fatal("the idle connection stays open")
		}
	}
}

func TestRedirectToHTTPS(t *testing.T) {
	for _, tc := range []struct {
		name, request string
		port          int
		want          string // Location; "" = 400
	}{
		{"path and query", "GET /a%2Fb?c=%zz;d HTTP/1.1\nHost: " + host, 443, "https://" + host + "/a%2Fb?c=%zz;d"},
		{"port of http goes", "GET / HTTP/1.1\nHost: " + host + ":80", 443, "https://" + host + "/"},
		{"port of https comes", "GET /? HTTP/1.1\nHost: " + host + ":80", 8443, "https://" + host + ":8443/?"},
		{"unknown host", "GET // HTTP/1.1\nHost: Nobody.Test.", 443, "https://nobody.test//"},
		{"address", "GET / HTTP/1.1\nHost: [2001:DB8::1]:80", 443, "https://[2001:db8::1]/"},
		{"post", "POST /form HTTP/1.1\nContent-Length: 0\nHost: " + host, 443, "https://" + host + "/form"},
		{"absolute form", "GET http://" + host + "/x HTTP/1.1\nHost: " + host, 443, "https://" + host + "/x"},
		{"whole server", "OPTIONS * HTTP/1.1\nHost: " + host, 443, "https://" + host + "/"},
		{"another site in the host", "GET / HTTP/1.1\nHost: a@evil.test", 443, ""},
		{"path in the host", "GET / HTTP/1.1\nHost: evil.test/x", 443, ""},
		{"no host", "GET / HTTP/1.0", 443, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			table, err := NewTable(TableOptions{AdvertisePort: tc.port})
			if err != nil {
				t.Fatal(err)
			}
			addr := startUpstream(t, NewHandler(HandlerOptions{Table: table}).RedirectToHTTPS())
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, strings.ReplaceAll(tc.request+"\n\n", "\n", "\r\n"))
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := http.StatusPermanentRedirect
			if tc.want == "" {
				want = http.StatusBadRequest
			}
			if got := res.Header.Get("Location"); res.StatusCode != want || got != tc.want || !res.Close {
				t.Errorf("= %d, Location %q, close %v; want %d, %q, true", res.StatusCode, got, res.Close, want, tc.want)
			}
		})
	}
}

func TestAltSvc(t *testing.T) {
	for _, tc := range []struct {
		o    TableOptions
		want string
	}{
		{TableOptions{HTTP3: true}, `h3=":443"; ma=2592000`},
		{TableOptions{HTTP3: true, AdvertisePort: 8443}, `h3=":8443"; ma=2592000`},
		{TableOptions{}, "clear"},
	} {
		tc.o.Routes = []*Route{{Host: host, Names: []string{host}, Stats: new(Stats)}}
		table, err := NewTable(tc.o)
		if err != nil {
			t.Fatal(err)
		}
		e := serve(t, usual(t), NewHandler(HandlerOptions{Table: table}))
		if res, _ := get(t, e.client(t, "h2"), "https://"+host+"/"); res.Header.Get("Alt-Svc") != tc.want {
			t.Errorf("%+v: Alt-Svc = %q; want %q", tc.o, res.Header.Get("Alt-Svc"), tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	a, b, c := &Route{Host: "a.test", Names: []string{"a.test", "www.a.test"}}, &Route{Host: "*.a.test", Names: []string{"*.a.test"}}, &Route{Host: "x.test", Names: []string{"www.a.test"}}
	table, err := NewTable(TableOptions{Generation: 7, Routes: []*Route{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]*Route{"a.test": a, "www.a.test": a, "x.a.test": b, "y.x.a.test": nil, ".a.test": b, "test": nil, "": nil, "*.a.test": b} {
		if got := table.Lookup(name); got != want {
			t.Errorf("Lookup(%q) = %v; want %v", name, got, want)
		}
	}
	if table.Generation() != 7 || len(table.routes) != 2 {
		t.Errorf("Generation %d, %d routes; want 7, 2", table.Generation(), len(table.routes))
	}
	if _, err := NewTable(TableOptions{Routes: []*Route{a, c}}); err == nil || !strings.Contains(err.Error(), "www.a.test") {
		t.Errorf("NewTable with a name twice = %v; want an error that names it", err)
	}
}

func TestSwap(t *testing.T) {
	inFirst, goOn := make(chan bool), make(chan bool)
	first := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inFirst <- true
		<-goOn
		io.WriteString(w, "first")
	}), rigOptions{})
	second := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "second") }), rigOptions{})
	c := first.client(t, "h2")
	answers := make(chan string, 1)
	go func() {
		_, body := get(t, c, "https://"+host+"/")
		answers <- body
	}()
	<-inFirst
	first.handler.Swap(second.handler.table.Load())
	if _, body := get(t, c, "https://"+host+"/"); body != "second" {
		t.Errorf("after the swap: %q; want second", body)
	}
	close(goOn)
	if body := <-answers; body != "first" {
		t.Errorf("the request in flight: %q; want first", body)
	}
}

func TestCanonicalHost(t *testing.T) {
	long := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"example.test":                   "example.test",
		"EXAMPLE.test:8443":              "example.test",
		"example.test.":                  "example.test",
		"example.test.:443":              "example.test",
		"example.test:":                  "example.test",
		"bücher.example":                 "xn--bcher-kva.example",
		"BÜCHER.example":                 "xn--bcher-kva.example",
		"xn--bcher-kva.example":          "xn--bcher-kva.example",
		"a_b.example":                    "a_b.example",
		"192.0.2.1:80":                   "192.0.2.1",
		"[2001:DB8:0::1]:443":            "[2001:db8::1]",
		long + ".test":                   long + ".test",
		"":                               "",
		".":                              "",
		"..":                             "",
		"example..test":                  "",
		".example.test":                  "",
		"example.test..":                 "",
		"a b":                            "",
		"a/b":                            "",
		"a@b":                            "",
		"a\x00b":                         "",
		"example.test:80x":               "",
		"example.test:1:2":               "",
		"2001:db8::1":                    "",
		"[::1":                           "",
		"[::1]x":                         "",
		"[fe80::1%eth0]":                 "",
		"[127.0.0.1]":                    "",
		"*.example.test":                 "",
		long + "a.test":                  "",
		strings.Repeat("a.", 127) + "aa": "",
	} {
		got, err := CanonicalHost(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CanonicalHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"example.test:80", "[::1]:1", "bücher.", "a..b", "ß.de", "İ.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := CanonicalHost(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(name, "/?#@% \\\r\n\x00") || name != strings.ToLower(name) || name == "" {
			t.Errorf("CanonicalHost(%q) = %q; not fit for a URL", s, name)
		}
		if again, err := CanonicalHost(name); err != nil || again != name {
			t.Errorf("CanonicalHost(%q) = %q, %v; want itself, it is canonical", name, again, err)
		}
	})
}

func TestFetchCloudflareRanges(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       []netip.Prefix
	}{
		{"ranges", `{"success":true,"result":{"ipv4_cidrs":["192.0.2.0/24"],"ipv6_cidrs":["2001:db8::/32"],"etag":"x"}}`,
			[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}},
		{"none", `{"success":true,"result":{}}`, nil},
		{"refused", `{"success":false,"result":{"ipv4_cidrs":["192.0.2.0/24"]}}`, nil},
		{"everything", `{"success":true,"result":{"ipv4_cidrs":["0.0.0.0/0"]}}`, nil},
		{"mapped everything", `{"success":true,"result":{"ipv6_cidrs":["::/0"]}}`, nil},
		{"nonsense", `<html>`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/client/v4/ips" {
					t.Errorf("asked for %s; want /client/v4/ips", r.URL.Path)
				}
				io.WriteString(w, tc.body)
			}))
			got, err := FetchCloudflareRanges(t.Context(), http.DefaultClient, "http://"+addr+"/client/v4/")
			if (err == nil) != (tc.want != nil) {
				t.Fatalf("error = %v", err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FetchCloudflareRanges(ctx, http.DefaultClient, "http://127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v; want context.Canceled", err)
	}
}

// BenchmarkForward is a small answer over HTTP/1.1 without TLS and without a
// log: the handler, http.Transport, and the two sockets between.
func BenchmarkForward(b *testing.B) {
	page := bytes.Repeat([]byte("x"), 5<<10)
	addr := startUpstream(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Write(page)
	}))
	for _, length := range []string{"none", "known"} {
		b.Run("body="+length, func(b *testing.B) {
			upstream, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: addr}, nil)
			if err != nil {
				b.Fatal(err)
			}
			defer upstream.Retire()
			rt := &Route{Host: host, Names: []string{host}, Online: true, Pool: NewPool([]*Upstream{upstream}, nil), Stats: new(Stats)}
			table, err := NewTable(TableOptions{Routes: []*Route{rt}})
			if err != nil {
				b.Fatal(err)
			}
			h := NewHandler(HandlerOptions{Table: table, Log: slog.New(slog.DiscardHandler)})
			benchmarkHandler(b, h, length == "known")
		})
	}
}

// BenchmarkForwardAlone leaves the sockets out: what the handler itself costs.
func BenchmarkForwardAlone(b *testing.B) {
	answer := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: 0, Body: http.NoBody,
		Header: http.Header{"Content-Type": {"image/png"}, "Content-Length": {"0"}, "Date": {"now"}, "Server": {"x"}}}
	upstream, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"}, roundTripperFunc(func(*http.Request) (*http.Response, error) { return answer, nil }))
	if err != nil {
		b.Fatal(err)
	}
	rt := &Route{Host: host, Names: []string{host}, Online: true, Pool: NewPool([]*Upstream{upstream}, nil), Stats: new(Stats)}
	table, err := NewTable(TableOptions{Routes: []*Route{rt}})
	if err != nil {
		b.Fatal(err)
	}
	benchmarkHandler(b, NewHandler(HandlerOptions{Table: table}), false)
}

type roundTripperFunc func(*http.Request) (*http.Response, error)

func (f roundTripperFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func benchmarkHandler(b *testing.B, h http.Handler, body bool) {
	b.ReportAllocs()
	w := &discardWriter{header: make(http.Header)}
	for b.Loop() {
		r := &http.Request{
			Method: http.MethodGet, Host: host, RequestURI: "/a?b=c", RemoteAddr: "192.0.2.9:51234",
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, URL: nil, Body: http.NoBody,
			Header: http.Header{"User-Agent": {"x"}, "Accept": {"*/*"}, "Accept-Encoding": {"gzip"}, "Cookie": {"a=b"}},
		}
		if body {
			r.Method, r.ContentLength = http.MethodPost, 5
			r.Body = io.NopCloser(strings.NewReader("hello"))
		}
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}

type discardWriter struct{ header http.Header }

func (w *discardWriter) Header() http.Header         { return w.header }
func (w *discardWriter) WriteHeader(int)             {}
func (w *discardWriter) Flush()                      {}
func (w *discardWriter) Write(p []byte) (int, error) { return len(p), nil }

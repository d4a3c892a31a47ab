package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

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

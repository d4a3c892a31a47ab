package client

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"detour/engine/wire"

	"github.com/google/go-cmp/cmp"
)

// received is a request as an upstream reads it.
type received struct {
	Method, URI, Host string
	Header            http.Header
	Length            int64
	Coding            []string
	Close             bool
	Body              string
	Trailer           http.Header
}

// What net/http sends, this package sends, for requests as a server makes them.
func TestRequestOracle(t *testing.T) {
	arrived := make(chan received, 1)
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			arrived <- received{req.Method, req.RequestURI, req.Host, req.Header, req.ContentLength, req.TransferEncoding, req.Close, string(body), req.Trailer}
			if req.Method == http.MethodHead {
				io.WriteString(c, "HTTP/1.1 204 No Content\r\n\r\n")
			} else {
				io.WriteString(c, okAB)
			}
		}
	})
	type change = func(r *http.Request)
	body := func(s string, length int64) change {
		return func(r *http.Request) {
			r.Method, r.Body, r.ContentLength = "POST", io.NopCloser(strings.NewReader(s)), length
		}
	}
	to := func(u url.URL) change {
		return func(r *http.Request) {
			u.Scheme, u.Host = r.URL.Scheme, r.URL.Host
			r.URL = &u
		}
	}
	tests := []struct {
		name string
		change
	}{
		{"plain", func(r *http.Request) {}},
		{"no method", func(r *http.Request) { r.Method = "" }},
		{"host", func(r *http.Request) { r.Host = "blog.example:8443" }},
		{"ipv6 host", func(r *http.Request) { r.Host = "[::1]:80" }},
		{"opaque", to(url.URL{Opaque: "/a%2Fb//c;d"})},
		{"opaque with query", to(url.URL{Opaque: "/a", RawQuery: "b=%zz&c|d"})},
		{"lone question mark", to(url.URL{Opaque: "/a", ForceQuery: true})},
		{"two slashes", to(url.URL{Path: "//x/y", RawPath: "//x/y"})},
		{"escaped path", to(url.URL{Path: "/a b/ü"})},
		{"no path", to(url.URL{})},
		{"asterisk", func(r *http.Request) { r.Method, r.URL.Opaque = "OPTIONS", "*" }},
		{"header", func(r *http.Request) {
			r.Header = http.Header{"A": {"1", "2"}, "Cookie": {"a=b; c=d"}, "X-Empty": {""}, "X-None": {}, "X-Pad": {" a "}, "Te": {"trailers"}}
		}},
		{"user agent", func(r *http.Request) { r.Header.Set("User-Agent", "curl/8") }},
		{"fields that follow from the request", func(r *http.Request) {
			r.Header = http.Header{"Host": {"evil"}, "Content-Length": {"7"}, "Transfer-Encoding": {"chunked"}, "Trailer": {"X"}}
		}},
		{"upgrade", func(r *http.Request) { r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}} }},
		{"close", func(r *http.Request) { r.Close = true }},
		{"head", func(r *http.Request) { r.Method = "HEAD" }},
		{"own method", func(r *http.Request) { r.Method = "PROPFIND" }},
		{"post without body", func(r *http.Request) { r.Method = "POST" }},
		{"put with no body", func(r *http.Request) { r.Method, r.Body = "PUT", http.NoBody }},
		{"delete without body", func(r *http.Request) { r.Method = "DELETE" }},
		{"length", body("hello", 5)},
		{"chunked", body("hello", -1)},
		{"chunked and empty", body("", -1)},
		{"get with a body", func(r *http.Request) { body("hello", 5)(r); r.Method = "GET" }},
		{"trailers", func(r *http.Request) {
			body("hello", -1)(r)
			r.Trailer = http.Header{"A": {"1", "2"}, "B": {"3"}}
		}},
		{"large", body(strings.Repeat("x", 300<<10), -1)},
		{"large header", func(r *http.Request) { r.Header.Set("X", strings.Repeat("x", 30<<10)) }},
		{"large header and body", func(r *http.Request) {
			body("hello", -1)(r)
			r.Header.Set("X", strings.Repeat("x", 30<<10))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [2]received
			for i, kind := range transports {
				req := request(t, http.MethodGet, addr, nil)
				req.Header["User-Agent"] = nil // or net/http invents one
				tt.change(req)
				if _, ok := req.Header["User-Agent"]; !ok {
					req.Header["User-Agent"] = nil
				}
				if _, _, err := roundTrip(t, kind.make(t, addr, nil), req); err != nil {
					t.Fatalf("%s: %v", kind.name, err)
				}
				got[i] = <-arrived
			}
			if diff := cmp.Diff(got[1], got[0]); diff != "" {
				t.Errorf("-net/http +client\n%s", diff)
			}
		})
	}
}

// What would be read as something else is not sent at all.
func TestUnsendable(t *testing.T) {
	addr := upstream(t, func(c net.Conn, r *bufio.Reader) { t.Error("a connection was opened") })
	rt := newClient(t, addr, nil)
	tests := []struct {
		name   string
		change func(r *http.Request)
		want   error
	}{
		{"method", func(r *http.Request) { r.Method = "G T" }, wire.ErrSendMethod},
		{"connect", func(r *http.Request) { r.Method = "CONNECT" }, errConnect},
		{"space in the target", func(r *http.Request) { r.URL.Opaque = "/a b" }, wire.ErrSendTarget},
		{"line in the target", func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" }, wire.ErrSendTarget},
		{"fragment", func(r *http.Request) { r.URL.Opaque = "/a#b" }, wire.ErrSendTarget},
		{"no host", func(r *http.Request) { r.URL.Host = ""; r.Host = "" }, wire.ErrSendHost},
		{"line in the host", func(r *http.Request) { r.Host = "a\r\nX: y" }, wire.ErrSendHost},
		{"space in a name", func(r *http.Request) { r.Header["A b"] = []string{"c"} }, wire.ErrSendField},
		{"empty name", func(r *http.Request) { r.Header[""] = []string{"c"} }, wire.ErrSendField},
		{"line in a value", func(r *http.Request) { r.Header["A"] = []string{"0123456789\nb"} }, wire.ErrSendField},
		{"nul in a value", func(r *http.Request) { r.Header["A"] = []string{"\x00"} }, wire.ErrSendField},
		{"trailer that frames", func(r *http.Request) {
			r.ContentLength, r.Trailer = -1, http.Header{"Content-Length": {"1"}}
		}, wire.ErrSendField},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body := &closeRecorder{Reader: strings.NewReader("hello")}
			req := request(t, http.MethodPost, addr, body)
			req.ContentLength = 5
			tt.change(req)
			if _, _, err := roundTrip(t, rt, req); !errors.Is(err, tt.want) {
				t.Errorf("error %v; want %v", err, tt.want)
			}
			if !body.closed.Load() {
				t.Error("the body was not closed")
			}
		})
	}
}

// A field of framing in any spelling must not pass.
func TestFramingFieldsAreOurs(t *testing.T) {
	req := request(t, http.MethodPost, "a.example", strings.NewReader("hello"))
	for _, name := range []string{"HOST", "content-length", "tRansfer-encoding", "trailer"} {
		req.Header[name] = []string{"evil"}
	}
	head, err := appendHead(nil, req)
	if err != nil || bytes.Contains(head, []byte("evil")) {
		t.Errorf("head %q, %v; want none of the header's own framing", head, err)
	}
}

package h2

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// seen is what a handler sees of a request.
type seen struct {
	Method, URL, Path, RawQuery, RequestURI, Host, Proto string
	Header, Trailer                                      http.Header
	Length                                               int64
	TLS                                                  bool
	Body                                                 string
	Err                                                  string
	After                                                http.Header // the trailers after the body
}

func look(r *http.Request) seen {
	s := seen{
		Method: r.Method, URL: r.URL.String(), Path: r.URL.Path, RawQuery: r.URL.RawQuery, RequestURI: r.RequestURI,
		Host: r.Host, Proto: r.Proto, Header: r.Header.Clone(), Trailer: r.Trailer.Clone(), Length: r.ContentLength, TLS: r.TLS != nil,
	}
	b, err := io.ReadAll(r.Body)
	s.Body = string(b)
	if err != nil {
		s.Err = "some"
	}
	s.After = r.Trailer.Clone()
	return s
}

// Requests as a handler sees them behind net/http and behind us.
func TestOracleRequests(t *testing.T) {
	type part struct {
		block []byte
		data  string
		end   bool
	}
	tests := []struct {
		name    string
		parts   []part
		differs func(nethttp *seen) // makes of net/http's view ours; see the package comment
	}{
		{name: "host", parts: []part{{block: get("host", "a.test"), end: true}},
			differs: func(s *seen) { s.Header.Del("Host") }},
		{name: "host alone", parts: []part{{block: block(":method", "GET", ":scheme", "https", ":path", "/", "host", "a"), end: true}},
			differs: func(s *seen) { s.Header.Del("Host") }},
		{name: "get", parts: []part{{block: get(), end: true}}},
		{name: "query", parts: []part{{block: path("GET", "/a%2Fb/c;d?e=f&g"), end: true}}},
		{name: "two slashes", parts: []part{{block: path("GET", "//a//b"), end: true}}},
		{name: "question mark", parts: []part{{block: path("GET", "/?"), end: true}}},
		{name: "dots", parts: []part{{block: path("GET", "/a/../b/./c"), end: true}}},
		{name: "semicolon", parts: []part{{block: path("GET", "/a;b=c?d;e"), end: true}}},
		{name: "utf-8", parts: []part{{block: path("GET", "/ä?ö"), end: true}}},
		{name: "escaped", parts: []part{{block: path("GET", "/%E4%20x"), end: true}}},
		{name: "bad escape in query", parts: []part{{block: path("GET", "/a?%zz"), end: true}}},
		{name: "options *", parts: []part{{block: path("OPTIONS", "*"), end: true}}},
		{name: "unknown method", parts: []part{{block: path("PROPFIND", "/dav"), end: true}}},
		{name: "port", parts: []part{{block: block(":method", "GET", ":scheme", "https", ":authority", "A.test:8443", ":path", "/"), end: true}}},
		{name: "ipv6", parts: []part{{block: block(":method", "GET", ":scheme", "https", ":authority", "[::1]:8443", ":path", "/"), end: true}}},
		{name: "scheme http", parts: []part{{block: block(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/"), end: true}}},
		{name: "fields", parts: []part{{block: get("accept", "a", "x-one", "b", "accept", "c", "user-agent", ""), end: true}}},
		{name: "odd names", parts: []part{{block: get("a_b", "1", "1a-2b", "2", "sec-ch-ua", "3", "x-a-", "4", "~", "5"), end: true}}},
		{name: "cookies", parts: []part{{block: get("cookie", "a=b", "cookie", "c=d", "cookie", "e"), end: true}}},
		{name: "one cookie", parts: []part{{block: get("cookie", "a=b; c=d"), end: true}}},
		{name: "fields again, in between", parts: []part{{block: get("accept", "a", "cookie", "b=c", "host", "a.test", "accept", "d", "cookie", "e=f", "x", "g", "accept", "h"), end: true}},
			differs: func(s *seen) { s.Header.Del("Host") }},
		{name: "te", parts: []part{{block: get("te", "trailers"), end: true}}},
		{name: "values", parts: []part{{block: get("x", "a\tb", "y", "\xff\xfe", "z", ""), end: true}}},
		{name: "length", parts: []part{{block: request("POST", "content-length", "3")}, {data: "abc", end: true}}},
		{name: "length in pieces", parts: []part{{block: request("POST", "content-length", "3")}, {data: "a"}, {data: "bc"}, {data: "", end: true}}},
		{name: "length 0", parts: []part{{block: request("POST", "content-length", "0"), end: true}}},
		{name: "length 0 and data frame", parts: []part{{block: request("POST", "content-length", "0")}, {data: "", end: true}}},
		{name: "no length", parts: []part{{block: request("PUT")}, {data: "abc"}, {data: "def", end: true}}},
		{name: "no length, no data", parts: []part{{block: request("PUT")}, {data: "", end: true}}},
		{name: "get with body", parts: []part{{block: get()}, {data: "abc", end: true}}},
		{name: "expect", parts: []part{{block: request("POST", "expect", "100-continue")}, {data: "abc", end: true}}},
		{name: "expect something else", parts: []part{{block: request("POST", "expect", "200-ok")}, {data: "abc", end: true}}},
		{name: "trailers", parts: []part{{block: request("POST", "trailer", "X-Sum, x-other, Content-Length")}, {data: "abc"}, {block: block("x-sum", "1", "x-not-announced", "2"), end: true}}},
		{name: "trailers not announced", parts: []part{{block: request("POST")}, {data: "abc"}, {block: block("x-sum", "1"), end: true}}},
		{name: "trailers announced but missing", parts: []part{{block: request("POST", "trailer", "X-Sum")}, {data: "abc", end: true}}},
		{name: "trailers at once", parts: []part{{block: request("POST", "trailer", "X-Sum")}, {block: block("x-sum", "1"), end: true}}},
		{name: "connect", parts: []part{{block: block(":method", "CONNECT", ":authority", "a:1")}, {data: "abc", end: true}}},
	}
	views := make([]chan seen, 2)
	var rigs [2]*rig
	for i := range rigs {
		views[i] = make(chan seen, 1)
		h := func(w http.ResponseWriter, r *http.Request) { views[i] <- look(r) }
		if i == 0 {
			rigs[i] = startOracle(t, h)
		} else {
			rigs[i] = start(t, h, Options{})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got [2]seen
			for i, g := range rigs {
				r := g.dial(t)
				for _, p := range tt.parts {
					if p.block != nil {
						r.headers(1, p.block, p.end)
					} else {
						r.WriteData(1, p.end, []byte(p.data))
					}
				}
				select {
				case got[i] = <-views[i]:
				case <-time.After(5 * time.Second):
					t.Fatalf("%d: the handler was not called; outcome %v", i, r.outcome(nothing))
				}
			}
			if tt.differs != nil {
				tt.differs(&got[0])
			}
			if diff := cmp.Diff(got[0], got[1]); diff != "" {
				t.Errorf("net/http against ours:\n%s", diff)
			}
		})
	}
}

package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// recorder is an upstream that keeps the head of each request as it came over
// the wire and answers 204.
func recorder(t testing.TB) (addr string, heads <-chan string) {
	ch := make(chan string, 16)
	addr = startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			var head strings.Builder
			length := 0
			for {
				line, err := br.ReadString('\n')
				if err != nil {
					return
				}
				if line == "\r\n" {
					break
				}
				fmt.Sscanf(line, "Content-Length: %d", &length)
				head.WriteString(line)
			}
			io.CopyN(io.Discard, br, int64(length))
			ch <- head.String()
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
		}
	})
	return addr, ch
}

func requestLine(head string) string { line, _, _ := strings.Cut(head, "\r\n"); return line }

func TestPathAndQueryByteForByte(t *testing.T) {
	addr, heads := recorder(t)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	for _, uri := range []string{
		"/", "/?", "/a?", "/a?b=1;c=2", "/a?b=%zz&%", "/a%2Fb/%2e%2E/c", "/a/../b/./c", "//x", "//x//y?z", "///",
		"/a;v=1", "/%7Euser/~", "/a+b%20c", "/a?q=//x?y", "/a|b^c`d{}", "/a[1]", "/caf%C3%A9", "/a:b@c", "/?a=1&a=2&b", "/%3F%23",
	} {
		r.raw(t, "GET "+uri+" HTTP/1.1\nHost: "+host+"\nConnection: close\n\n")
		if got, want := requestLine(<-heads), "GET "+uri+" HTTP/1.1"; got != want {
			t.Errorf("h1: upstream got %q; want %q", got, want)
		}
		for _, p := range []string{"h2", "h3"} {
			req := newRequest(t, http.MethodGet, "https://"+host, nil)
			path, query, force := strings.Cut(uri, "?")
			req.URL.RawQuery, req.URL.ForceQuery = query, force
			if req.URL.Opaque = path; strings.HasPrefix(path, "//") {
				req.URL.Opaque, req.URL.RawPath = "", path
				req.URL.Path, _ = url.PathUnescape(path)
			}
			do(t, r.client(t, p), req)
			if got, want := requestLine(<-heads), "GET "+uri+" HTTP/1.1"; got != want {
				t.Errorf("%s: upstream got %q; want %q", p, got, want)
			}
		}
	}
	for in, want := range map[string]string{
		"OPTIONS *":                                "OPTIONS *",
		"GET https://" + host:                      "GET /",
		"GET https://" + host + "?a":               "GET /?a",
		"GET http://" + host + "//a%2f?b=%zz":      "GET //a%2f?b=%zz",
		"OPTIONS https://" + host:                  "OPTIONS *",
		"PROPFIND /dav/":                           "PROPFIND /dav/",
		"GET https://" + host + "/https://x/?u=/a": "GET /https://x/?u=/a",
	} {
		r.raw(t, in+" HTTP/1.1\nHost: "+host+"\nConnection: close\n\n")
		if got := requestLine(<-heads); got != want+" HTTP/1.1" {
			t.Errorf("%q: upstream got %q; want %q", in, got, want+" HTTP/1.1")
		}
	}
	for _, p := range []string{"h2", "h3"} {
		req := newRequest(t, http.MethodOptions, "https://"+host, nil)
		req.URL.Opaque = "*"
		do(t, r.client(t, p), req)
		if got, want := requestLine(<-heads), "OPTIONS * HTTP/1.1"; got != want {
			t.Errorf("%s: upstream got %q; want %q", p, got, want)
		}
	}
}

func TestMalformedRequests(t *testing.T) {
	addr, heads := recorder(t)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	for name, request := range map[string]string{
		"fragment":            "GET /a#b HTTP/1.1\nHost: " + host,
		"host with a path":    "GET / HTTP/1.1\nHost: " + host + "/x",
		"host with user":      "GET / HTTP/1.1\nHost: me@" + host,
		"host with a space":   "GET / HTTP/1.1\nHost: a b",
		"empty host":          "GET / HTTP/1.1\nHost:",
		"port is not a port":  "GET / HTTP/1.1\nHost: " + host + ":x",
		"two hosts":           "GET / HTTP/1.1\nHost: " + host + "\nHost: other.test",
		"no host":             "GET / HTTP/1.1",
		"bad percent in path": "GET /%zz HTTP/1.1\nHost: " + host,
	} {
		t.Run(name, func(t *testing.T) {
			res, _ := r.raw(t, request+"\n\n")
			if res.StatusCode != http.StatusBadRequest || !res.Close {
				t.Errorf("%q = %d, close %v; want 400, true", request, res.StatusCode, res.Close)
			}
		})
	}
	select {
	case head := <-heads:
		t.Errorf("forwarded: %q", head)
	default:
	}
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, _ string) {
		if res, body := get(t, c, "https://other.example.test/"); res.StatusCode != http.StatusMisdirectedRequest || body == "" {
			t.Errorf("host that is not served = %d %q; want 421 and a page", res.StatusCode, body)
		}
	})
}

func TestClientGone(t *testing.T) {
	arrived, cancelled := make(chan bool), make(chan bool, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-r.Context().Done()
		cancelled <- true
	}), rigOptions{})
	n := 0
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-arrived
			cancel()
		}()
		if _, err := c.Do(newRequest(t, http.MethodGet, url+"/", nil).WithContext(ctx)); !errors.Is(err, context.Canceled) {
			t.Fatalf("Do = %v; want context.Canceled", err)
		}
		select {
		case <-cancelled:
		case <-time.After(5 * time.Second):
			t.Fatal("the upstream's request goes on")
		}
		n++
		if line := r.accessLog(t, n)[n-1]; line["status"] != 499.0 {
			t.Errorf("status in the log = %v; want 499", line["status"])
		}
	})
	if e, _ := r.route.Stats.LastError(); e != "" {
		t.Errorf("LastError = %q; want none, it was not the upstream's", e)
	}
}

func TestInterimResponses(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Link", "</last.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		w.Header().Set("X-Final", "1")
		io.WriteString(w, "done")
	}), rigOptions{route: func(rt *Route) { rt.Compress = true }})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		var hints []string
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, " ", h.Get("Link")))
			return nil
		}}
		req := newRequest(t, http.MethodGet, url+"/", nil)
		res, body := do(t, c, req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
		want := []string{"103 </style.css>; rel=preload", "103 </last.css>; rel=preload"}
		if diff := cmp.Diff(want, hints); diff != "" {
			t.Errorf("interim responses (-want +got):\n%s", diff)
		}
		if body != "done" || res.Header.Get("Link") != "" || res.Header.Get("X-Final") != "1" {
			t.Errorf("final answer = %q %v; want done, X-Final and no Link", body, res.Header)
		}
	})
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

package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
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

// headerOf sends a request through a rig and returns the header that its
// upstream saw.
func headerOf(t *testing.T, o rigOptions, c func(*rig) *http.Client, req *http.Request) http.Header {
	t.Helper()
	seen := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
	}), o)
	do(t, c(r), req)
	return <-seen
}

func TestRequestHeader(t *testing.T) {
	everything := http.Header{
		"Accept-Encoding":     {"br"},
		"Cookie":              {"a=b"},
		"X-Custom":            {"1", "2"},
		"Forwarded":           {"for=9.9.9.9"},
		"X-Forwarded-For":     {"9.9.9.9, 192.0.2.7"},
		"X-Forwarded-Proto":   {"ftp"},
		"X-Forwarded-Host":    {"evil.test"},
		"X-Real-Ip":           {"9.9.9.9"},
		"Cf-Connecting-Ip":    {"9.9.9.9"},
		"True-Client-Ip":      {"9.9.9.9"},
		"X-Request-Id":        {"mine"},
		"Proxy":               {"http://evil.test"},
		"Via":                 {"1.0 fred"},
		"Proxy-Authorization": {"secret"},
		"Te":                  {"trailers"},
	}
	hop := http.Header{"Connection": {"x-private, close"}, "X-Private": {"1"}, "Keep-Alive": {"5"}, "Proxy-Connection": {"x"}, "Te": {"trailers, deflate"}}
	loopback := TrustedOptions{Private: true}
	for _, tc := range []struct {
		name     string
		protocol string
		trusted  TrustedOptions
		sent     http.Header
		want     http.Header // X-Request-Id "*" = any
	}{
		{"nothing is invented", "h1", TrustedOptions{}, nil, http.Header{
			"Via":               {"1.1 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
		{"a stranger's words are replaced", "h2", TrustedOptions{}, everything, http.Header{
			"Accept-Encoding":   {"br"},
			"Cookie":            {"a=b"},
			"X-Custom":          {"1", "2"},
			"Te":                {"trailers"},
			"Via":               {"1.0 fred", "2.0 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
		{"a trusted peer's are kept", "h2", loopback, everything, http.Header{
			"Accept-Encoding":   {"br"},
			"Cookie":            {"a=b"},
			"X-Custom":          {"1", "2"},
			"Forwarded":         {"for=9.9.9.9"},
			"Te":                {"trailers"},
			"Via":               {"1.0 fred", "2.0 detour"},
			"X-Forwarded-For":   {"9.9.9.9, 192.0.2.7, 127.0.0.1"},
			"X-Real-Ip":         {"192.0.2.7"},
			"Cf-Connecting-Ip":  {"9.9.9.9"},
			"True-Client-Ip":    {"9.9.9.9"},
			"X-Forwarded-Proto": {"ftp"},
			"X-Forwarded-Host":  {"evil.test"},
			"X-Request-Id":      {"mine"},
		}},
		{"hop by hop", "h1", TrustedOptions{}, hop, http.Header{
			"Te":                {"trailers"},
			"Via":               {"1.1 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
		{"a stranger in HTTP/3", "h3", TrustedOptions{}, http.Header{"X-Forwarded-For": {"9.9.9.9"}}, http.Header{
			"Via":               {"3.0 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
			req.Header = tc.sent.Clone()
			if req.Header == nil {
				req.Header = http.Header{}
			}
			req.Header["User-Agent"] = nil
			if tc.protocol == "h3" {
				req.Header["User-Agent"] = []string{""} // quic-go's way to send none
			}
			got := headerOf(t, rigOptions{trusted: tc.trusted}, func(r *rig) *http.Client { return r.client(t, tc.protocol) }, req)
			if id := got.Get("X-Request-Id"); tc.want.Get("X-Request-Id") == "*" && len(id) > 20 {
				got.Set("X-Request-Id", "*")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("header at the upstream (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostField(t *testing.T) {
	hosts := make(chan string, 1)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host })
	plain := newRig(t, h, rigOptions{})
	secure := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "https", Address: startTLSUpstream(t, h), RootsPEM: testRootsPEM()}})
	eachProtocol(t, plain.edge, func(t *testing.T, c *http.Client, _ string) {
		get(t, c, "https://"+host+":8443/")
		if got, want := <-hosts, host+":8443"; got != want {
			t.Errorf("Host at an http upstream = %q; want %q", got, want)
		}
	})
	get(t, secure.client(t, "h2"), "https://"+host+"/")
	if got, want := <-hosts, secure.route.Pool.Members()[0].String(); got != want {
		t.Errorf("Host at an https upstream = %q; want %q", got, want)
	}
}

// A port may be empty (RFC 3986, 3.2.3), but not every parser of HTTP/1 knows.
func TestEmptyPort(t *testing.T) {
	addr, heads := recorder(t)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	for _, protocol := range []string{"h2", "h3"} { // on HTTP/1 the server refuses it
		req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
		req.Host = host + ":"
		if res, _ := do(t, r.client(t, protocol), req); res.StatusCode != http.StatusNoContent {
			t.Errorf("%s: answer to the host %q = %d; want 204", protocol, req.Host, res.StatusCode)
			continue
		}
		head := <-heads
		for _, field := range []string{"\r\nHost: " + host + "\r\n", "\r\nX-Forwarded-Host: " + host + "\r\n"} {
			if !strings.Contains(head, field) {
				t.Errorf("%s: the upstream got %q; want %q in it", protocol, head, field)
			}
		}
	}
}

func TestUnderscoreHeaders(t *testing.T) {
	seen := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }), rigOptions{})
	const request = "GET / HTTP/1.1\nHost: " + host + "\nConnection: close\nX_Alone: kept\nX_Twin: dropped\nX-Twin: kept\nX_Real_IP: 9.9.9.9\nCF_Connecting_IP: 9.9.9.9\n\n"
	for range 3 {
		r.raw(t, request)
		got := <-seen
		for name, want := range map[string]string{"X_alone": "kept", "X_twin": "", "X-Twin": "kept", "X_real_ip": "", "X-Real-Ip": "127.0.0.1", "Cf_connecting_ip": ""} {
			if v := strings.Join(got[name], ","); v != want {
				t.Errorf("%s at the upstream = %q; want %q", name, v, want)
			}
		}
	}
	if n := strings.Count(r.messages.String(), "X_twin"); n != 1 {
		t.Errorf("warned %d times about X_twin; want once:\n%s", n, r.messages)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	h := NewHandler(HandlerOptions{})
	for i := range 5000 {
		h.warnings.underscore(host, fmt.Sprint("X_", i), "")
	}
	if n := len(h.warnings.told); n > 1000 {
		t.Errorf("%d warnings remembered; want at most 1000", n)
	}
}

// A request without a body must not become a chunked one.
func TestNoBodyIsNoBody(t *testing.T) {
	addr, heads := recorder(t)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		nones := []io.Reader{nil}
		if !strings.HasSuffix(t.Name(), "h1") {
			nones = append(nones, io.MultiReader()) // a frame of its own ends the stream, as some send it always
		}
		for _, method := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "MOVE", "LOCK"} {
			for _, none := range nones {
				do(t, c, newRequest(t, method, url+"/", none))
				if head := <-heads; strings.Contains(head, "Transfer-Encoding") || strings.Contains(head, "Content-Length") {
					t.Errorf("%s without a body became\n%s", method, head)
				}
			}
		}
		if strings.HasSuffix(t.Name(), "h3") {
			return // whether a POST has a body shows only when its stream ends
		}
		do(t, c, newRequest(t, http.MethodPost, url+"/", http.NoBody))
		if head := <-heads; strings.Contains(head, "chunked") || !strings.Contains(head, "Content-Length: 0") {
			t.Errorf("POST without a body became\n%s", head)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	for _, tc := range []struct {
		name, answer string
		want         int
		wantBody     bool
	}{
		{"the upstream wants the body", "HTTP/1.1 100 Continue\r\n\r\n", 200, true},
		{"the upstream refuses", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", 417, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bodies := make(chan string, 1)
			addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				if req.Header.Get("Expect") != "100-continue" {
					bodies <- "no Expect"
				}
				io.WriteString(conn, tc.answer)
				if tc.wantBody {
					body, _ := io.ReadAll(req.Body)
					bodies <- string(body)
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
			conn := r.dial(t, "http/1.1")
			fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", host)
			br := bufio.NewReader(conn)
			if tc.wantBody {
				if line, _ := br.ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 100") {
					t.Fatalf("first line = %q; want 100", line)
				}
				br.ReadString('\n')
				io.WriteString(conn, "body")
				if got := <-bodies; got != "body" {
					t.Errorf("upstream's body = %q; want body", got)
				}
			}
			res, err := http.ReadResponse(br, nil)
			if err != nil || res.StatusCode != tc.want {
				t.Fatalf("answer = %v, %v; want %d", res, err, tc.want)
			}
		})
	}
}

// Of HTTP/3's clients, those that wait for the upstream's 100 get it. (quic-go's
// server sends none of its own.)
func TestExpectContinueOverHTTP3(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	for _, tc := range []struct {
		method string
		length int64
	}{{http.MethodPost, 3}, {http.MethodPatch, -1}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		body, hand := io.Pipe()
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
			go func() {
				fmt.Fprint(hand, code)
				hand.Close()
			}()
			return nil
		}})
		req := newRequest(t, tc.method, "https://"+host+"/", body).WithContext(ctx)
		req.ContentLength = tc.length
		req.Header.Set("Expect", "100-continue")
		if res, got := do(t, r.client(t, "h3"), req); res.StatusCode != 200 || got != "100" {
			t.Errorf("%s: answer = %d %q; want 200 and the body that was sent behind the 100", tc.method, res.StatusCode, got)
		}
	}
}

// A client of HTTP/1.0 waits for no 100, whatever it says: its upstream must not
// be waited for either.
func TestExpectOfHTTP10(t *testing.T) {
	expects := make(chan []string, 1)
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		expects <- r.Header["Expect"]
		io.Copy(w, r.Body)
	}), rigOptions{})
	conn := r.dial(t, "http/1.1")
	fmt.Fprintf(conn, "POST / HTTP/1.0\r\nHost: %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody", host)
	if got := <-expects; got != nil {
		t.Errorf("the upstream was told to expect %q; want nothing", got)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("answer = %v, %v; want 200", res, err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "body" {
		t.Errorf("body = %q, %v; want body", body, err)
	}
}

// A body flows as it is made, in both directions at once.
func TestBodiesStream(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		pr, pw := io.Pipe()
		req := newRequest(t, http.MethodPost, url+"/", pr)
		go pw.Write([]byte("first"))
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		buf := make([]byte, 100)
		for _, want := range []string{"first", "second", "third"} {
			if want != "first" {
				pw.Write([]byte(want))
			}
			n, err := io.ReadFull(res.Body, buf[:len(want)])
			if err != nil || string(buf[:n]) != want {
				t.Fatalf("echo = %q, %v; want %q", buf[:n], err, want)
			}
		}
		pw.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) > 0 {
			t.Errorf("at the end: %q, %v; want a clean end", rest, err)
		}
	})
}

func TestRequestTrailers(t *testing.T) {
	got := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	}), rigOptions{})
	for _, p := range []string{"h1", "h2"} {
		t.Run(p, func(t *testing.T) {
			req := newRequest(t, http.MethodPost, "https://"+host+"/", io.LimitReader(strings.NewReader("body"), 4))
			req.ContentLength = -1
			req.Trailer = http.Header{"X-Sum": {"42"}}
			do(t, r.client(t, p), req)
			if diff := cmp.Diff(http.Header{"X-Sum": {"42"}}, <-got); diff != "" {
				t.Errorf("trailer at the upstream (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMaxBody(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}), rigOptions{route: func(rt *Route) { rt.MaxBody = 1000 }})
	var lines int
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, tc := range []struct {
			size  int
			known bool
			want  int
		}{{1000, true, 200}, {1001, true, 413}, {1000, false, 200}, {1001, false, 413}, {300_000, false, 413}} {
			req := newRequest(t, http.MethodPost, url+"/", strings.NewReader(strings.Repeat("x", tc.size)))
			if !tc.known {
				req.ContentLength = -1
			}
			if res, _ := do(t, c, req); res.StatusCode != tc.want {
				t.Errorf("%d bytes, length known %v = %d; want %d", tc.size, tc.known, res.StatusCode, tc.want)
			}
			var why any
			if tc.want == http.StatusRequestEntityTooLarge {
				why = errBodyTooLarge.Error()
			}
			lines++
			if line := r.accessLog(t, lines)[lines-1]; line["error"] != why {
				t.Errorf("%d bytes, length known %v: access log says %v; want %v", tc.size, tc.known, line["error"], why)
			}
		}
	})
}

// An upstream that answers early is heard although the upload goes on.
func TestEarlyAnswer(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		conn.(*net.TCPConn).CloseWrite()
		io.CopyN(io.Discard, br, 1<<20)
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		pr, pw := io.Pipe()
		defer pw.Close()
		go pw.Write([]byte("the beginning of something long"))
		res, body := do(t, c, newRequest(t, http.MethodPost, url+"/", pr))
		if res.StatusCode != 403 || body != "no" {
			t.Errorf("= %d %q; want 403 no", res.StatusCode, body)
		}
	})
	eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
}

// An upstream that refuses an upload and closes at once, as servers do, is
// heard too, although writing to it fails.
func TestEarlyAnswerAndClose(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		}
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	body := make([]byte, 4<<20)
	for _, p := range protocols {
		t.Run(p, func(t *testing.T) {
			c := r.client(t, p)
			for range 20 {
				if p == "h1" { // http.Transport may itself miss what this is about
					conn := r.dial(t, "http/1.1")
					go fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", host, len(body), body)
					if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 413 {
						t.Errorf("= %v, %v; want 413", res, err)
					}
					conn.Close()
					continue
				}
				res, err := c.Do(newRequest(t, http.MethodPost, "https://"+host+"/", bytes.NewReader(body)))
				if err != nil {
					t.Errorf("%v; want 413", err)
					continue
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode != 413 {
					t.Errorf("= %d; want 413", res.StatusCode)
				}
			}
		})
	}
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

func TestOrigin(t *testing.T) {
	cf := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	all := TrustedOptions{Cloudflare: true, Private: true, CloudflareRanges: cf, Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}
	for _, tc := range []struct {
		name    string
		trusted TrustedOptions
		peer    string
		header  http.Header
		want    string
		believe bool
	}{
		{"nobody is believed", TrustedOptions{}, "127.0.0.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9"}}, "127.0.0.1", false},
		{"a stranger", all, "192.0.2.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9"}, "Cf-Connecting-Ip": {"9.9.9.9"}}, "192.0.2.1", false},
		{"one hop", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9"}}, "9.9.9.9", true},
		{"the right-most stranger", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"1.1.1.1, 9.9.9.9", "203.0.113.7, 10.2.3.4"}}, "9.9.9.9", true},
		{"all are believed", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"10.9.9.9, 10.8.8.8"}}, "10.9.9.9", true},
		{"nonsense ends the walk", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9, unknown, 10.8.8.8"}}, "10.8.8.8", true},
		{"no header", all, "10.0.0.1:9", nil, "10.0.0.1", true},
		{"ports and brackets", all, "[::1]:9", http.Header{"X-Forwarded-For": {"[2001:db8::5]:443, 10.1.1.1:80"}}, "2001:db8::5", true},
		{"mapped IPv4", all, "[::ffff:10.0.0.1]:9", http.Header{"X-Forwarded-For": {"::ffff:9.9.9.9"}}, "9.9.9.9", true},
		{"Cloudflare's word", all, "198.51.100.4:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}, "X-Forwarded-For": {"8.8.8.8"}}, "9.9.9.9", true},
		{"Cloudflare without it", all, "198.51.100.4:9", http.Header{"X-Forwarded-For": {"8.8.8.8"}}, "8.8.8.8", true},
		{"Cloudflare's word from another", all, "10.0.0.1:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}}, "10.0.0.1", true},
		{"Cloudflare is not trusted", TrustedOptions{CloudflareRanges: cf}, "198.51.100.4:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}}, "198.51.100.4", false},
		{"the embedded list", TrustedOptions{Cloudflare: true}, "[2606:4700::1]:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}}, "9.9.9.9", true},
		{"no address", all, "@", http.Header{"X-Forwarded-For": {"9.9.9.9"}}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := NewTrusted(tc.trusted).origin(&http.Request{RemoteAddr: tc.peer, Header: tc.header})
			if got.text("") != tc.want || got.trusted != tc.believe {
				t.Errorf("origin = %q, trusted %v; want %q, %v", got.text(""), got.trusted, tc.want, tc.believe)
			}
		})
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("10.0.0.1:80", "9.9.9.9, 10.1.1.1", "1.2.3.4")
	f.Add("[::1]:1", ",,[::],", "")
	trusted := NewTrusted(TrustedOptions{Private: true, Cloudflare: true})
	f.Fuzz(func(t *testing.T, peer, forwarded, cf string) {
		o := trusted.origin(&http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {forwarded}, "Cf-Connecting-Ip": {cf}}})
		if o.text("") != "" {
			if a, err := netip.ParseAddr(o.text("")); err != nil || a.Zone() != "" {
				t.Errorf("client %q is no plain address: %v", o.text(""), err)
			}
		}
		if !o.trusted && o.client != o.peer {
			t.Errorf("a stranger %v became %v", o.peer, o.client)
		}
	})
}

// NTLM and Negotiate authenticate a connection, not a request: whoever is next
// on it would be taken for the visitor before.
func TestConnectionAuthenticationIsNotShared(t *testing.T) {
	for scheme, shared := range map[string]bool{"NTLM TlRMTVNTUAAB": false, "negotiate YII=": false, "Basic YTpi": true, "Bearer x": true} {
		var mu sync.Mutex
		var from []string
		r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			from = append(from, r.RemoteAddr)
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", "Negotiate")
			}
		}), rigOptions{})
		c := r.client(t, "h2")
		req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
		req.Header.Set("Authorization", scheme)
		do(t, c, req)
		get(t, c, "https://"+host+"/")
		if got := from[0] == from[1]; got != shared {
			t.Errorf("%s: the next request on the same connection = %v; want %v", scheme, got, shared)
		}
	}
}

// An upgrade asks for its connection to go on, whatever it is authenticated by;
// when it is refused, nobody else gets that connection.
func TestUpgradesShareNoConnection(t *testing.T) {
	var mu sync.Mutex
	var from []string
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		from = append(from, r.RemoteAddr)
		if got := r.Header["Connection"]; len(got) != 1 || got[0] != "Upgrade" {
			t.Errorf("Connection: %q; want Upgrade alone", got)
		}
		w.WriteHeader(http.StatusNotFound)
	}), rigOptions{})
	for range 2 {
		res, _ := r.raw(t, "GET / HTTP/1.1\nHost: "+host+"\nConnection: Upgrade\nUpgrade: websocket\nAuthorization: Negotiate YII=\n\n")
		if res.StatusCode != http.StatusNotFound {
			t.Fatalf("answer %d; want 404", res.StatusCode)
		}
	}
	if from[0] == from[1] {
		t.Error("two visitors' upgrades on one connection")
	}
}

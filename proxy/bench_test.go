package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"testing"
	"time"

	"detour/logging"
)

// quietContext is a request's context as an engine makes it: it tells of its
// end without a channel.
type quietContext struct{ context.Context }

func (quietContext) Done() <-chan struct{}                   { return nil }
func (quietContext) AfterFunc(func()) (stop func() bool)     { return stopped }
func (quietContext) Deadline() (deadline time.Time, ok bool) { return time.Time{}, false }

func stopped() bool { return true }

// quietWriter takes an answer and forgets it.
type quietWriter struct {
	header http.Header
	status int
	bytes  int
}

func (w *quietWriter) Header() http.Header                { return w.header }
func (w *quietWriter) WriteHeader(status int)             { w.status = status }
func (w *quietWriter) Write(p []byte) (int, error)        { w.bytes += len(p); return len(p), nil }
func (w *quietWriter) FlushError() error                  { return nil }
func (w *quietWriter) EnableFullDuplex() error            { return nil }
func (w *quietWriter) SetReadDeadline(_ time.Time) error  { return nil }
func (w *quietWriter) SetWriteDeadline(_ time.Time) error { return nil }

// usualRequest is what a browser asks a server for.
func usualRequest() *http.Request {
	return (&http.Request{
		Method:     http.MethodGet,
		URL:        &url.URL{Path: "/index.html", RawQuery: "a=b"},
		RequestURI: "/index.html?a=b",
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Host:       host,
		RemoteAddr: "192.0.2.7:51234",
		TLS:        new(tls.ConnectionState),
		Body:       http.NoBody,
		Header: http.Header{
			"User-Agent":      {"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
			"Accept":          {"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
			"Accept-Language": {"en-US,en;q=0.5"}, "Accept-Encoding": {"gzip, deflate, br, zstd"},
			"Cookie": {"session=0123456789abcdef"}, "Referer": {"https://blog.example.test/"},
			"Sec-Fetch-Dest": {"document"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Site": {"same-origin"},
			"Upgrade-Insecure-Requests": {"1"}, "Priority": {"u=0, i"},
		},
	}).WithContext(quietContext{context.Background()})
}

const usualBody = 1 << 10

// usualAnswer is a small answer as it comes from an upstream.
const usualAnswer = "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Sat, 22 Nov 2025 13:00:00 GMT\r\nContent-Type: image/webp\r\n" +
	"Content-Length: 1024\r\nConnection: keep-alive\r\nETag: \"5f3e-61\"\r\n" +
	"Last-Modified: Tue, 04 Mar 2025 10:00:00 GMT\r\nAccept-Ranges: bytes\r\n\r\n"

// cannedTransport answers at once, and always the same; one request at a time.
type cannedTransport struct {
	res  http.Response
	left int
}

func newCannedTransport() *cannedTransport {
	return &cannedTransport{res: http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: usualBody,
		Header: http.Header{
			"Server": {"nginx"}, "Date": {"Sat, 22 Nov 2025 13:00:00 GMT"}, "Content-Type": {"image/webp"}, "Content-Length": {"1024"},
			"Connection": {"keep-alive"}, "Etag": {`"5f3e-61"`},
			"Last-Modified": {"Tue, 04 Mar 2025 10:00:00 GMT"}, "Accept-Ranges": {"bytes"},
		},
	}}
}

func (c *cannedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn("")
	trace.GotConn(httptrace.GotConnInfo{Reused: true})
	trace.GotFirstResponseByte()
	c.left = usualBody
	c.res.Body = c
	return &c.res, nil
}

func (c *cannedTransport) Read(p []byte) (int, error) {
	n := min(c.left, len(p))
	if c.left -= n; c.left == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (c *cannedTransport) Close() error { return nil }

// usualUpstream answers each request on loopback at the least cost.
func usualUpstream(tb testing.TB) string {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { ln.Close() })
	answer := []byte(usualAnswer + strings.Repeat("x", usualBody))
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 8<<10)
				for {
					if _, err := conn.Read(buf); err != nil { // a head is one segment here
						return
					}
					conn.Write(answer)
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// chain is the handler chain over one route, without a server.
func chain(tb testing.TB, o UpstreamOptions, rt http.RoundTripper, edit func(*Route)) http.Handler {
	tb.Helper()
	upstream, err := NewUpstream(o, rt)
	if err != nil {
		tb.Fatal(err)
	}
	upstream.brief = true
	tb.Cleanup(upstream.Retire)
	page, err := ParseStatusPage("https://status.example.test{uri}")
	if err != nil {
		tb.Fatal(err)
	}
	route := &Route{
		Host: host, Names: []string{host}, Online: true, Pool: NewPool([]*Upstream{upstream}, nil), Stats: new(Stats),
		Compress: true, StatusPage: page, Headers: []HeaderEdit{{"Strict-Transport-Security", "max-age=31536000"}},
	}
	if edit != nil {
		edit(route)
	}
	table, err := NewTable(TableOptions{Routes: []*Route{route}, HTTP3: true})
	if err != nil {
		tb.Fatal(err)
	}
	return logging.AccessLog(NewHandler(HandlerOptions{Table: table}), nil)
}

func switchedOff(rt *Route) { rt.Online = false }

// serveUsual serves the same request again and again; it returns what serves one.
func serveUsual(tb testing.TB, h http.Handler, status int) func() {
	r := usualRequest()
	w := &quietWriter{header: make(http.Header, 16)}
	return func() {
		clear(w.header)
		w.status, w.bytes = 0, 0
		h.ServeHTTP(w, r)
		if w.status != status || status == http.StatusOK && w.bytes != usualBody {
			tb.Fatalf("answer %d with %d bytes; want %d", w.status, w.bytes, status)
		}
	}
}

// BenchmarkHandler is the chain alone, and with the exchange over loopback.
func BenchmarkHandler(b *testing.B) {
	b.Run("canned", func(b *testing.B) {
		serve := serveUsual(b, chain(b, UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, newCannedTransport(), nil), 200)
		b.ReportAllocs()
		for b.Loop() {
			serve()
		}
	})
	b.Run("loopback", func(b *testing.B) {
		serve := serveUsual(b, chain(b, UpstreamOptions{Scheme: "http", Address: usualUpstream(b), Engine: true}, nil, nil), 200)
		b.ReportAllocs()
		for b.Loop() {
			serve()
		}
	})
	b.Run("post", func(b *testing.B) {
		h := chain(b, UpstreamOptions{Scheme: "http", Address: usualUpstream(b), Engine: true}, nil, nil)
		r := usualRequest()
		form := strings.Repeat("x", 300)
		body := strings.NewReader(form)
		r.Method, r.ContentLength = http.MethodPost, int64(len(form))
		r.Header["Content-Length"] = []string{"300"}
		w := &quietWriter{header: make(http.Header, 16)}
		closer := io.NopCloser(body)
		b.ReportAllocs()
		for b.Loop() {
			clear(w.header)
			body.Reset(form)
			r.Body = closer // AccessLog replaces it
			h.ServeHTTP(w, r)
		}
	})
	b.Run("compressed", func(b *testing.B) {
		canned := newCannedTransport()
		canned.res.Header["Content-Type"] = []string{"text/html"}
		h := chain(b, UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, canned, nil)
		r := usualRequest()
		w := &quietWriter{header: make(http.Header, 16)}
		b.ReportAllocs()
		for b.Loop() {
			clear(w.header)
			h.ServeHTTP(w, r)
		}
		if w.header.Get("Content-Encoding") != "zstd" {
			b.Fatalf("not compressed: %v", w.header)
		}
	})
	b.Run("offline", func(b *testing.B) {
		serve := serveUsual(b, chain(b, UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, newCannedTransport(), switchedOff), 302)
		b.ReportAllocs()
		for b.Loop() {
			serve()
		}
	})
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

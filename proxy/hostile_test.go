package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Connection field that lists thousands of names must not cost its length
// times the number of fields: one such request took a second once.
func TestLongConnectionFieldIsCheap(t *testing.T) {
	h := NewHandler(HandlerOptions{})
	cost := func(connection string) time.Duration {
		r := httptest.NewRequest("GET", "https://a.example.test/", nil)
		for i := range 3000 {
			r.Header["X"+strings.Repeat("a", i%50)+string(rune('A'+i%26))+string(rune('A'+i/26%26))+string(rune('A'+i/676))] = []string{"1"}
		}
		r.Header.Set("Connection", connection)
		r.Header.Set("X-Private", "1")
		start := time.Now()
		out := make(http.Header)
		h.requestHeader(out, make([]string, 0, addedFields), r, &Route{}, origin{}, "192.0.2.1", "id")
		if took := time.Since(start); out["X-Private"] == nil {
			return took
		}
		t.Fatal("a field that Connection lists was passed on")
		return 0
	}
	least := func(connection string) time.Duration {
		best := time.Hour
		for range 5 {
			best = min(best, cost(connection))
		}
		return best
	}
	short, long := least("x-private"), least(strings.Repeat("a,", 16<<10)+"x-private")
	if long > 100*short {
		t.Errorf("a list of 16,000 names takes %v, one of a single name %v", long, short)
	}
}

// What only a proxy may say cannot be said in a trailer either.
func TestForgedTrailersAreDropped(t *testing.T) {
	got := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		got <- r.Trailer
	}), rigOptions{})
	for _, protocol := range []string{"h1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			req := newRequest(t, "POST", "https://"+host+"/", io.MultiReader(strings.NewReader("body")))
			req.ContentLength = -1
			req.Trailer = http.Header{"X-Sum": {"42"}, "X-Forwarded-For": {"198.51.100.1"}, "X_real_ip": {"198.51.100.1"}, "Cf-Connecting-Ip": {"198.51.100.1"}}
			if resp, _ := do(t, r.client(t, protocol), req); resp.StatusCode != 200 {
				t.Fatalf("status %d; want 200", resp.StatusCode)
			}
			trailer := <-got
			if len(trailer) != 1 || trailer.Get("X-Sum") != "42" {
				t.Errorf("the upstream got the trailers %v; want only X-Sum", trailer)
			}
		})
	}
}

// No limit means none: not the one that a zero value might stand for.
func TestNoResponseTimeout(t *testing.T) {
	u, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := u.transport.(*http.Transport).ResponseHeaderTimeout; d != 0 {
		t.Errorf("the response header may take %v; want no limit", d)
	}
}

// Clients that do not read their answers cannot bind encoders without end.
func TestEncodersAreBounded(t *testing.T) {
	var budget encoderBudget
	open := func() (*compressWriter, http.Header) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		c := newCompressor(w, r, &budget)
		c.Header().Set("Content-Type", "text/html")
		io.WriteString(c, strings.Repeat("compress me ", 100))
		return c, w.Header()
	}
	var all []*compressWriter
	for range maxEncoders {
		c, h := open()
		if h.Get("Content-Encoding") != "gzip" {
			t.Fatalf("answer %d is not compressed", len(all)+1)
		}
		all = append(all, c)
	}
	c, h := open()
	if h.Get("Content-Encoding") != "" || h.Get("Vary") == "" {
		t.Errorf("header over the limit = %v; want the identity, with Vary", h)
	}
	c.release()
	all[0].release() // also without Close, as after a panic
	if _, h := open(); h.Get("Content-Encoding") != "gzip" {
		t.Error("an encoder that was given back cannot be used")
	}
}

// Streams of events last for hours: they take no encoder from the pages.
func TestEventStreamsLeaveTheEncoders(t *testing.T) {
	var budget encoderBudget
	open := func(contentType string) http.Header {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd") // as a browser's EventSource says
		c := newCompressor(w, r, &budget)
		c.Header().Set("Content-Type", contentType)
		io.WriteString(c, strings.Repeat("data: compress me\n\n", 100))
		return w.Header()
	}
	for range maxEncoders {
		if h := open("text/event-stream; charset=utf-8"); h.Get("Content-Encoding") != "" || h.Get("Vary") != "" {
			t.Fatalf("header of a stream of events = %v; want the identity", h)
		}
	}
	if h := open("text/html"); h.Get("Content-Encoding") != "zstd" {
		t.Errorf("header of a page beside %d streams of events = %v; want it compressed", maxEncoders, h)
	}
}

// An upstream that answers with a status that is none, or switches protocols
// unasked, is a bad gateway and nothing else.
func TestImpossibleStatus(t *testing.T) {
	for _, status := range []string{"099 Odd", "101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo"} {
		up := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
			if _, err := http.ReadRequest(br); err == nil {
				io.WriteString(conn, "HTTP/1.1 "+status+"\r\n\r\n")
			}
		})
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: up}})
		for _, protocol := range []string{"h1", "h2", "h3"} {
			if resp, _ := get(t, r.client(t, protocol), "https://"+host+"/"); resp.StatusCode != 502 {
				t.Errorf("%s: an upstream's %.3s became %d; want 502", protocol, status, resp.StatusCode)
			}
		}
	}
}

// A 204 with a length breaks no HTTP/2 stream.
func TestNoContentWithALength(t *testing.T) {
	up := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(conn, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n")
		}
	})
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: up}})
	for _, protocol := range []string{"h1", "h2", "h3"} {
		resp, _ := get(t, r.client(t, protocol), "https://"+host+"/")
		if resp.StatusCode != 204 || resp.Header.Get("Content-Length") != "" {
			t.Errorf("%s: %d with Content-Length %q; want 204 without", protocol, resp.StatusCode, resp.Header.Get("Content-Length"))
		}
	}
}

// A length that contradicts itself or the body never reaches an upstream.
func TestContradictoryLength(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the upstream was asked")
	}), rigOptions{})
	for _, length := range [][]string{{"3", "4"}, {"3"}} {
		conn := r.dial(t, "h2")
		fmt.Fprint(conn, http2.ClientPreface)
		framer := http2.NewFramer(conn, conn)
		framer.WriteSettings()
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":authority", host}, {":path", "/"}} {
			enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		for _, n := range length {
			enc.WriteField(hpack.HeaderField{Name: "content-length", Value: n})
		}
		framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: len(length) == 1})
		if len(length) > 1 {
			framer.WriteData(1, true, []byte("abc"))
		}
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		for {
			f, err := framer.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if h, ok := f.(*http2.MetaHeadersFrame); ok {
				if got := h.PseudoValue("status"); got != "400" {
					t.Errorf("Content-Length %v: status %s; want 400", length, got)
				}
				break
			}
			if _, ok := f.(*http2.RSTStreamFrame); ok {
				break // as good an answer
			}
		}
		conn.Close()
	}
}

// An upstream that sends interim answers without an end is cut off, whatever
// they are, and whether the client can be told of them or not.
func TestInterimStorm(t *testing.T) {
	for _, interim := range []string{"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"} {
		addr := startRawUpstream(t, func(conn net.Conn, r *bufio.Reader) {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			for storm := []byte(strings.Repeat(interim, 500)); ; {
				if _, err := conn.Write(storm); err != nil {
					return
				}
			}
		})
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
		for _, p := range []string{"h1", "h2"} { // the client of HTTP/3 takes only a few
			req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
			trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return nil }} // takes any number
			res, _ := do(t, r.client(t, p), req.WithContext(httptrace.WithClientTrace(t.Context(), trace)))
			if res.StatusCode != http.StatusBadGateway {
				t.Errorf("%s, %.12s: answer %d; want 502", p, interim, res.StatusCode)
			}
		}
	}
}

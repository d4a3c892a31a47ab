package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// answer is what a client sees.
type answer struct {
	Status  int
	Header  http.Header
	Body    string
	Err     string
	Trailer http.Header
	Length  int64
	Interim []string
	End     string // how the stream ended
}

// Answers as a client sees them, from net/http and from us.
func TestOracleAnswers(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 8<<10)
	type handler = http.HandlerFunc
	tests := []struct {
		name    string
		h       handler
		differs string // why net/http's answer is another one
	}{
		{name: "nothing", h: func(w http.ResponseWriter, r *http.Request) {}},
		{name: "short", h: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }},
		{name: "html", h: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html><p>hello") }},
		{name: "binary", h: func(w http.ResponseWriter, r *http.Request) { w.Write([]byte{0, 1, 2, 0xff}) }},
		{name: "exactly held back", h: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, big[:holdBack]) }},
		{name: "one more", h: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, big[:holdBack+1]) }},
		{name: "two writes", h: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, big[:holdBack-1])
			io.WriteString(w, big[:2])
		}},
		{name: "small, then large", h: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<html>")
			w.Write([]byte(big))
		}},
		{name: "large", h: func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(big)) }},
		{name: "many small", h: func(w http.ResponseWriter, r *http.Request) {
			for range 5000 {
				io.WriteString(w, "abc")
			}
		}},
		{name: "flush first", h: func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			io.WriteString(w, "<html>")
		}},
		{name: "flush between", h: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "<html>")
			w.(http.Flusher).Flush()
			io.WriteString(w, "more")
		}},
		{name: "flush last", h: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
		}},
		{name: "length", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}},
		{name: "length of 0", h: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Content-Length", "0") }},
		{name: "bad length", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "x")
			io.WriteString(w, "hello")
		}},
		{name: "negative length", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "-1")
			io.WriteString(w, "hello")
		}},
		{name: "type", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "a/b")
			io.WriteString(w, "<html>")
		}},
		{name: "type suppressed", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Content-Type"] = nil
			io.WriteString(w, "<html>")
		}},
		{name: "type empty", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "")
			io.WriteString(w, "<html>")
		}},
		{name: "encoded", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "x")
			io.WriteString(w, "<html>")
		}},
		{name: "encoding empty", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "")
			io.WriteString(w, "<html>")
		}},
		{name: "date", h: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Date", "x") }},
		{name: "no date", h: func(w http.ResponseWriter, r *http.Request) { w.Header()["Date"] = nil }},
		{name: "404", h: http.NotFound},
		{name: "redirect", h: func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", 302) }},
		{name: "204", h: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }},
		{name: "204 with body", h: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(204)
			n, err := io.WriteString(w, "x")
			w.Header().Set("Trailer:X-N", fmt.Sprint(n, err))
		}},
		{name: "304", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.Header().Set("Etag", "x")
			w.WriteHeader(304)
		}},
		{name: "304 with body", h: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(304)
			io.WriteString(w, "x")
		}},
		{name: "204 flushed", h: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(204)
			w.(http.Flusher).Flush()
		}},
		{name: "299", h: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(299) }},
		{name: "999", h: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(999) }},
		{name: "status twice", h: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			w.WriteHeader(404)
		}},
		{name: "status 99", h: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(99) }},
		{name: "header frozen", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("A", "1")
			w.WriteHeader(200)
			w.Header().Set("A", "2")
			w.Header().Set("B", "3")
		}},
		{name: "header frozen by Write", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("A", "1")
			io.WriteString(w, "x")
			w.Header().Set("A", "2")
		}},
		{name: "values frozen", h: func(w http.ResponseWriter, r *http.Request) {
			v := []string{"1", "2"}
			w.Header()["A"] = v
			w.WriteHeader(200)
			v[0] = "3"
		}},
		{name: "many fields", h: func(w http.ResponseWriter, r *http.Request) {
			for i := range 300 {
				w.Header().Set(fmt.Sprintf("X-Field-%d", i), strings.Repeat("~", 200))
			}
		}},
		{name: "set-cookie", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Set-Cookie"] = []string{"a=b", "c=d"}
		}},
		{name: "bad names", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["A B"] = []string{"1"}
			w.Header()["Ä"] = []string{"1"}
			w.Header()["Good"] = []string{"1"}
			w.Header()["lower"] = []string{"1"}
			w.Header()[""] = []string{"1"}
		}},
		{name: "bad values", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header()["A"] = []string{"x\r\nB: y", "ok", "\x00", "t\tab", "\xff"}
		}},
		{name: "values with spaces around them", differs: "clients drop such fields, or the answer (RFC 9113, section 8.2.1)",
			h: func(w http.ResponseWriter, r *http.Request) { w.Header()["A"] = []string{" x", "y\t"} }},
		{name: "connection", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "keep-alive")
			w.Header().Set("Transfer-Encoding", "chunked")
		}},
		{name: "announced trailer", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum, X-None")
			w.Header().Add("Trailer", "x-more")
			io.WriteString(w, "x")
			w.Header().Set("X-Sum", "1")
			w.Header().Set("X-More", "2")
		}},
		{name: "announced trailer, no body", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			w.WriteHeader(200)
			w.Header().Set("X-Sum", "1")
		}},
		{name: "announced trailer missing", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "x")
		}},
		{name: "forbidden trailer", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Content-Length, X-A")
			io.WriteString(w, "x")
			w.Header().Set("X-A", "1")
		}},
		{name: "prefixed trailer", h: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, big)
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}},
		{name: "prefixed trailer, short body", h: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "x")
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}},
		{name: "grpc, trailers only", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "14")
		}},
		{name: "103", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.Header().Set("Link", "</b>")
			w.WriteHeader(103)
			w.Header().Del("Link")
			io.WriteString(w, "x")
		}},
		{name: "103 with length", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1")
			w.WriteHeader(103)
			io.WriteString(w, "x")
		}},
		{name: "panic", h: func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "panic after header", h: func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "panic in body", h: func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte(big))
			io.WriteString(w, "held back")
			panic(http.ErrAbortHandler)
		}},
		{name: "real panic", h: func(w http.ResponseWriter, r *http.Request) { panic("oops") }},
		{name: "write errors", h: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			w.(http.Flusher).Flush()
			n, err := io.WriteString(w, "more than ten bytes")
			w.Header().Set("Trailer:N", fmt.Sprint(n, err != nil))
			io.WriteString(w, "0123456789")
		}, differs: "the rest is missing: that is an error, not the end of the answer"},
		{name: "past write deadline", h: func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "HEAD" {
				return // with the header all is said
			}
			w.Header().Set("X", "y") // without a field net/http's Flush waits for nothing, and the reset may overtake it
			w.(http.Flusher).Flush()
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(-time.Second))
			io.WriteString(w, big)
		}},
		{name: "read deadline", h: func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, err := r.Body.Read(make([]byte, 1))
			fmt.Fprint(w, r.Method == "POST" && !errors.Is(err, os.ErrDeadlineExceeded))
		}},
		{name: "controller", h: func(w http.ResponseWriter, r *http.Request) {
			rc := http.NewResponseController(w)
			_, _, err := rc.Hijack()
			fmt.Fprint(w, rc.EnableFullDuplex(), errors.Is(err, http.ErrNotSupported), rc.Flush())
		}},
		{name: "body closed", h: func(w http.ResponseWriter, r *http.Request) {
			r.Body.Close()
			_, err := r.Body.Read(make([]byte, 1))
			fmt.Fprint(w, err != nil && (r.Method != "POST" || err != io.EOF))
		}},
		{name: "context", h: func(w http.ResponseWriter, r *http.Request) {
			addr := r.Context().Value(http.LocalAddrContextKey)
			ctx, cancel := context.WithTimeout(r.Context(), time.Millisecond)
			defer cancel()
			<-ctx.Done()
			fmt.Fprint(w, addr != nil, r.Context().Err(), ctx.Err())
		}},
		{name: "written with a longer length", differs: "the rest is missing: that is an error, not the end of the answer",
			h: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "10")
				io.WriteString(w, "hello")
			}},
		{name: "written with a shorter length", differs: "too much is refused while it is still held back",
			h: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Length", "4")
				io.WriteString(w, "hello")
			}},
		{name: "keep-alive", differs: "HTTP/2 has no such fields",
			h: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Keep-Alive", "timeout=5")
				w.Header().Set("Upgrade", "h2c")
				w.Header().Set("Proxy-Connection", "close")
			}},
		{name: "101", differs: "HTTP/2 has none",
			h: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(101) }},
	}
	var current http.HandlerFunc
	dispatch := func(w http.ResponseWriter, r *http.Request) { current(w, r) }
	rigs := [2]*rig{startOracle(t, dispatch), start(t, dispatch, Options{})}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD", "POST"} {
			t.Run(tt.name+"/"+method, func(t *testing.T) {
				current = tt.h
				var got [2]answer
				for i, g := range rigs {
					got[i] = g.ask(t, method)
				}
				diff := cmp.Diff(got[0], got[1])
				if tt.differs == "" && diff != "" {
					t.Errorf("net/http against ours:\n%s", diff)
				}
			})
		}
		if tt.differs != "" {
			t.Run(tt.name+"/differs", func(t *testing.T) {
				current = tt.h
				if cmp.Equal(rigs[0].ask(t, "GET"), rigs[1].ask(t, "GET")) {
					t.Errorf("no difference; is it true that %s?", tt.differs)
				}
			})
		}
	}
}

// ask sends a request with frames, and looks at the answer both so and with
// net/http's client.
func (g *rig) ask(t *testing.T, method string) answer {
	t.Helper()
	var a answer
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			a.Interim = append(a.Interim, fmt.Sprint(code, h))
			return nil
		},
	})
	var body io.Reader
	if method == "POST" {
		body = strings.NewReader("abc")
	}
	req, _ := http.NewRequestWithContext(ctx, method, g.url("/"), body)
	res, err := g.client.Do(req)
	if err != nil {
		a.Err = "before the answer"
	} else {
		a.Status, a.Header, a.Length = res.StatusCode, res.Header, res.ContentLength
		if d := a.Header["Date"]; len(d) == 1 && d[0] != "x" {
			a.Header["Date"] = []string{"some"}
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		a.Body, a.Trailer = string(b), res.Trailer
		if err != nil {
			a.Err = "in the body"
		}
	}
	a.End = g.frames(t, method)
	return a
}

// frames tells how an answer ends on the wire.
func (g *rig) frames(t *testing.T, method string) string {
	r := g.dial(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	defer r.conn.Close()
	r.WriteWindowUpdate(0, 1<<20)
	r.headers(1, request(method), method != "POST")
	if method == "POST" {
		r.WriteData(1, true, []byte("abc"))
	}
	var names []string
	var frag []byte
	d := hpack.NewDecoder(4096, nil)
	for {
		f, err := r.ReadFrame()
		if err != nil {
			return "closed"
		}
		h := f.Header()
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			if h.StreamID == 1 {
				return "reset " + f.ErrCode.String()
			}
		case *http2.HeadersFrame:
			frag = append(frag[:0], f.HeaderBlockFragment()...)
		case *http2.ContinuationFrame:
			frag = append(frag, f.HeaderBlockFragment()...)
		}
		if (h.Type == http2.FrameHeaders || h.Type == http2.FrameContinuation) && h.Flags.Has(http2.FlagHeadersEndHeaders) {
			fields, err := d.DecodeFull(frag)
			if err != nil {
				t.Fatal(err)
			}
			var block []string
			for _, f := range fields {
				block = append(block, f.Name)
			}
			sort.Strings(block)
			names = append(names, strings.Join(slices.Compact(block), " "))
		}
		if h.Type == http2.FrameHeaders && h.Flags.Has(http2.FlagHeadersEndStream) {
			return "header " + strings.Join(names, "; ")
		}
		if h.Type == http2.FrameData && h.Flags.Has(http2.FlagDataEndStream) {
			return "data " + strings.Join(names, "; ")
		}
	}
}

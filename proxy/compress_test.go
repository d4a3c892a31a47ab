package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"detour/engine/lifetime"
)

// prose gives n bytes, at most 2 MiB, that compress like a page.
func prose(n int) string { return longProse()[:n] }

var longProse = sync.OnceValue(func() string {
	var b strings.Builder
	for i := 0; b.Len() < 2<<20; i++ {
		fmt.Fprintf(&b, "<li class=entry><a href=/post/%d>Entry number %d</a> of the list, %x</li>\n", i, i*i, int64(i)*2654435761)
	}
	return b.String()
})

func newCompressor(w http.ResponseWriter, r *http.Request, budget *encoderBudget) *compressWriter {
	c := new(compressWriter)
	c.begin(w, r, budget)
	return c
}

// compressRig is an online host whose answers are compressed.
func compressRig(t testing.TB, h http.HandlerFunc) *rig {
	t.Helper()
	return newRig(t, h, rigOptions{route: func(rt *Route) { rt.Compress = true }})
}

// decoder undoes the coding of res.
func decoder(t testing.TB, coding string, r io.Reader) io.Reader {
	t.Helper()
	switch coding {
	case "gzip":
		d, err := gzip.NewReader(r)
		if err != nil {
			t.Fatalf("gzip: %v", err)
		}
		return d
	case "zstd":
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			t.Fatalf("zstd: %v", err)
		}
		t.Cleanup(d.Close)
		return d
	}
	return r
}

func decode(t testing.TB, res *http.Response, body string) string {
	t.Helper()
	got, err := io.ReadAll(decoder(t, res.Header.Get("Content-Encoding"), strings.NewReader(body)))
	if err != nil {
		t.Fatalf("body in %q: %v", res.Header.Get("Content-Encoding"), err)
	}
	return string(got)
}

func accepting(t testing.TB, method, url, codings string) *http.Request {
	t.Helper()
	req := newRequest(t, method, url, nil)
	if codings != "" {
		req.Header.Set("Accept-Encoding", codings)
	}
	return req
}

// Bodies of every length arrive whole, in the coding that was asked for, and
// with the header that belongs to it.
func TestCompress(t *testing.T) {
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.FormValue("n"))
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Accept-Ranges", "bytes")
		h.Set("ETag", `"abc"`)
		h.Set("Vary", "Cookie")
		if r.FormValue("length") == "known" {
			h.Set("Content-Length", strconv.Itoa(n))
		} else {
			w.WriteHeader(200)
			http.NewResponseController(w).Flush()
		}
		io.WriteString(w, prose(n))
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, length := range []string{"known", "unknown"} {
			for _, n := range []int{0, 1, compressMinimum - 1, compressMinimum, 4 << 10, 50 << 10, holdLimit, holdLimit + 1, 400_000} {
				for _, want := range []string{"", "gzip", "zstd"} {
					t.Run(fmt.Sprintf("%s/%d/%s", length, n, want), func(t *testing.T) {
						res, raw := do(t, c, accepting(t, "GET", fmt.Sprintf("%s/?n=%d&length=%s", url, n, length), want))
						body := decode(t, res, raw)
						if body != prose(n) {
							t.Errorf("body has %d bytes; want the %d that were sent", len(body), n)
						}
						if length == "known" && n < compressMinimum {
							want = ""
						}
						wantHeader := map[string]string{"Vary": "Cookie, Accept-Encoding", "Content-Encoding": want, "Etag": `"abc"`, "Accept-Ranges": "bytes"}
						if want != "" {
							wantHeader["Etag"], wantHeader["Accept-Ranges"] = `"abc-`+want+`"`, ""
						}
						for name, v := range wantHeader {
							if got := res.Header.Get(name); got != v {
								t.Errorf("%s = %q; want %q", name, got, v)
							}
						}
						if length == "unknown" && n > 0 && res.ContentLength >= 0 {
							t.Errorf("Content-Length %d; want none", res.ContentLength)
						}
						if want != "" && n > 4<<10 && len(raw) > n/2 {
							t.Errorf("%d bytes on the wire of %d", len(raw), n)
						}
					})
				}
			}
		}
	})
}

// A body of known length leaves with the length of its compressed form, up to
// a limit.
func TestCompressWhole(t *testing.T) {
	for _, accept := range []string{"gzip", "zstd"} {
		for _, n := range []int{compressMinimum, 50 << 10, holdLimit, holdLimit + 1} {
			synctest.Test(t, func(t *testing.T) { // a slow machine is no slow upstream
				res := compress(t, accepting(t, "GET", "/", accept), func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					w.Header().Set("Content-Length", strconv.Itoa(n))
					for rest := prose(n); rest != ""; {
						piece := rest[:min(32<<10, len(rest))]
						rest = rest[len(piece):]
						io.WriteString(w, piece)
					}
				})
				raw, _ := io.ReadAll(res.Body)
				want := ""
				if n <= holdLimit {
					want = strconv.Itoa(len(raw))
				}
				if got := res.Header.Get("Content-Length"); got != want {
					t.Errorf("%s of %d bytes: Content-Length %q; want %q", accept, n, got, want)
				}
				if decode(t, res, string(raw)) != prose(n) {
					t.Errorf("%s of %d bytes: the body changed", accept, n)
				}
			})
		}
	}
}

// compress answers r by what h writes, through a compressWriter.
func compress(t testing.TB, r *http.Request, h http.HandlerFunc) *http.Response {
	t.Helper()
	rec := httptest.NewRecorder()
	c := newCompressor(rec, r, nil)
	h(c, r)
	if err := c.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	return rec.Result()
}

func TestCompressDecision(t *testing.T) {
	const vary = "Accept-Encoding"
	tests := []struct {
		name     string
		accept   string
		request  string // further field
		status   int
		header   string
		coding   string
		wantVary string
	}{
		{"page", "gzip", "", 200, "Content-Type: text/html", "gzip", vary},
		{"error page", "gzip", "", 404, "Content-Type: text/html", "gzip", vary},
		{"capitals", "gzip", "", 200, "Content-Type: Text/HTML;charset=UTF-8", "gzip", vary},
		{"JSON", "zstd", "", 200, "Content-Type: application/json", "zstd", vary},
		{"some JSON", "zstd", "", 200, "Content-Type: application/vnd.api+json", "zstd", vary},
		{"SVG", "gzip", "", 200, "Content-Type: image/svg+xml", "gzip", vary},
		{"wasm", "gzip", "", 200, "Content-Type: application/wasm", "gzip", vary},
		{"tie", "gzip, zstd", "", 200, "Content-Type: text/css", "zstd", vary},
		{"nothing accepted", "", "", 200, "Content-Type: text/css", "", vary},
		{"only others accepted", "br", "", 200, "Content-Type: text/css", "", vary},
		{"image", "gzip", "", 200, "Content-Type: image/png", "", ""},
		{"compressed font", "gzip", "", 200, "Content-Type: font/woff2", "", ""},
		{"gRPC", "gzip", "", 200, "Content-Type: application/grpc", "", ""},
		{"no type", "gzip", "", 200, "X: y", "", ""},
		{"no-transform", "gzip", "", 200, "Content-Type: text/html\nCache-Control: public, No-Transform", "", ""},
		{"no-transform asked", "gzip", "Cache-Control: no-transform", 200, "Content-Type: text/html", "", vary},
		{"encoded already", "gzip, br", "", 200, "Content-Type: text/html\nContent-Encoding: br", "br", ""},
		{"digest", "gzip", "", 200, "Content-Type: text/html\nContent-Digest: sha-256=:AA==:", "", ""},
		{"partial", "gzip", "Range: bytes=0-9", 206, "Content-Type: text/html\nContent-Range: bytes 0-9/20", "", vary},
		{"range not served", "gzip", "Range: bytes=9-", 416, "Content-Type: text/html\nContent-Range: bytes */5", "", vary},
		{"range ignored", "gzip", "Range: bytes=0-9", 200, "Content-Type: text/html", "gzip", vary},
		{"no content", "gzip", "", 204, "X: y", "", ""},
		{"not modified", "gzip", "", 304, "X: y", "", vary},
		{"not modified, no-transform", "gzip", "", 304, "Cache-Control: no-transform", "", ""},
		{"Vary kept", "gzip", "", 200, "Content-Type: text/html\nVary: accept-encoding, Cookie", "gzip", "accept-encoding, Cookie"},
		{"Vary: *", "gzip", "", 200, "Content-Type: text/html\nVary: *", "gzip", "*"},
		{"weak tag", "gzip", "", 200, "Content-Type: text/html\nEtag: W/\"a\"", "gzip", vary},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := accepting(t, "GET", "/", tt.accept)
			if name, value, ok := strings.Cut(tt.request, ": "); ok {
				r.Header.Set(name, value)
			}
			res := compress(t, r, func(w http.ResponseWriter, _ *http.Request) {
				for line := range strings.SplitSeq(tt.header, "\n") {
					name, value, _ := strings.Cut(line, ": ")
					w.Header().Add(name, value)
				}
				w.WriteHeader(tt.status)
				if tt.status != 204 && tt.status != 304 {
					io.WriteString(w, prose(1000))
				}
			})
			if got := res.Header.Get("Content-Encoding"); got != tt.coding {
				t.Errorf("Content-Encoding = %q; want %q", got, tt.coding)
			}
			if got := strings.Join(res.Header["Vary"], "|"); got != tt.wantVary {
				t.Errorf("Vary = %q; want %q", got, tt.wantVary)
			}
			if res.StatusCode != tt.status {
				t.Errorf("status = %d; want %d", res.StatusCode, tt.status)
			}
			raw, _ := io.ReadAll(res.Body)
			if body := decode(t, res, string(raw)); tt.status != 204 && tt.status != 304 && body != prose(1000) {
				t.Errorf("body = %q", body)
			}
			if tt.name == "weak tag" && res.Header.Get("Etag") != `W/"a"` {
				t.Errorf("Etag = %q; want it as it was", res.Header.Get("Etag"))
			}
		})
	}
}

// A short body waits for more; what is flushed does not.
func TestCompressShort(t *testing.T) {
	tests := []struct {
		name, accept string
		pieces       []string
		flush        bool
		want         string
	}{
		{"one short write", "gzip", []string{"abc"}, false, ""},
		{"no write", "gzip", nil, false, ""},
		{"short writes that add up", "gzip", []string{prose(300), prose(300)}, false, "gzip"},
		{"short, then long", "zstd", []string{"abc", prose(70000)}, false, "zstd"},
		{"short and flushed", "gzip", []string{"abc"}, true, "gzip"},
		{"short, identity forbidden", "gzip, identity;q=0", []string{"abc"}, false, "gzip"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res := compress(t, accepting(t, "GET", "/", tt.accept), func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/plain")
				for _, p := range tt.pieces {
					io.WriteString(w, p)
					if tt.flush {
						http.NewResponseController(w).Flush()
					}
				}
			})
			raw, _ := io.ReadAll(res.Body)
			if got := res.Header.Get("Content-Encoding"); got != tt.want {
				t.Errorf("Content-Encoding = %q; want %q", got, tt.want)
			}
			if got, want := decode(t, res, string(raw)), strings.Join(tt.pieces, ""); got != want {
				t.Errorf("body has %d bytes; want %d", len(got), len(want))
			}
		})
	}
}

// HEAD says what GET would, except for what only the body tells.
func TestCompressHead(t *testing.T) {
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Header().Set("Etag", `"abc"`)
		w.Header().Set("Content-Length", r.FormValue("n"))
		n, _ := strconv.Atoi(r.FormValue("n"))
		io.WriteString(w, prose(n))
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, n := range []int{100, 5000, 500_000} {
			url := fmt.Sprintf("%s/?n=%d", url, n)
			g, _ := do(t, c, accepting(t, "GET", url, "gzip"))
			h, body := do(t, c, accepting(t, "HEAD", url, "gzip"))
			for _, res := range []*http.Response{g, h} {
				for _, name := range []string{"Date", "Content-Length"} {
					res.Header.Del(name)
				}
			}
			if diff := cmp.Diff(g.Header, h.Header); diff != "" || body != "" {
				t.Errorf("%d bytes: HEAD differs from GET (-GET +HEAD):\n%s", n, diff)
			}
			if n >= compressMinimum && h.ContentLength >= 0 {
				t.Errorf("%d bytes: HEAD has Content-Length %d; want none", n, h.ContentLength)
			}
		}
	})
}

// What is flushed arrives while the upstream waits for the client to say that
// it did.
func TestCompressFlushes(t *testing.T) {
	next := make(chan struct{})
	const pieces = 5
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.FormValue("type"))
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		for i := range pieces {
			select {
			case <-next:
			case <-r.Context().Done():
				return
			}
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
		}
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, contentType := range []string{"text/plain", "text/html"} {
			for _, coding := range []string{"gzip", "zstd"} {
				t.Run(contentType+"/"+coding, func(t *testing.T) {
					res, err := c.Do(accepting(t, "GET", url+"/?type="+contentType, coding))
					if err != nil {
						t.Fatal(err) // the header did not come before the body
					}
					defer res.Body.Close()
					if got := res.Header.Get("Content-Encoding"); got != coding {
						t.Errorf("Content-Encoding = %q; want %q", got, coding)
					}
					var lines *bufio.Reader
					for i := range pieces {
						next <- struct{}{}
						if lines == nil {
							lines = bufio.NewReader(decoder(t, coding, res.Body))
						}
						line, err := lines.ReadString('\n')
						if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
							t.Fatalf("event = %q, %v; want %q", line, err, want)
						}
						lines.ReadString('\n')
					}
					if rest, err := io.ReadAll(lines); len(rest) > 0 || err != nil {
						t.Errorf("the stream ends with %q, %v", rest, err)
					}
				})
			}
		}
	})
}

// A body that trickles in is not held back until it is whole.
func TestCompressHoldsBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		c := newCompressor(rec, accepting(t, "GET", "/", "zstd"), nil)
		c.Header().Set("Content-Type", "text/html")
		c.Header().Set("Content-Length", "5000")
		io.WriteString(c, prose(5000)[:1000])
		time.Sleep(holdTime)
		io.WriteString(c, prose(5000)[1000:2000])
		if rec.Flushed {
			t.Errorf("the answer left within %v; want it held for its length", holdTime)
		}
		time.Sleep(time.Millisecond)
		io.WriteString(c, prose(5000)[2000:3000])
		got := make([]byte, 3000)
		if _, err := io.ReadFull(decoder(t, "zstd", bytes.NewReader(rec.Body.Bytes())), got); err != nil || string(got) != prose(3000) || !rec.Flushed {
			t.Errorf("after %v the client has less than what was written: %v", holdTime, err)
		}
		io.WriteString(c, prose(5000)[3000:])
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		res := rec.Result()
		if got := decode(t, res, rec.Body.String()); got != prose(5000) || res.Header["Content-Length"] != nil {
			t.Errorf("in the end the client has %d bytes, %v; want 5000 without Content-Length", len(got), res.Header)
		}
	})
}

// An upstream that breaks off is not made into a clean end.
func TestCompressUpstreamAborts(t *testing.T) {
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.FormValue("length") != "" {
			w.Header().Set("Content-Length", r.FormValue("length"))
		}
		io.WriteString(w, prose(100_000))
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, length := range []string{"", "200000", "2000000"} {
			for _, coding := range []string{"gzip", "zstd"} {
				res, err := c.Do(accepting(t, "GET", url+"/?length="+length, coding))
				if err != nil {
					continue // broken before the header was out: seen all the same
				}
				body, err := io.ReadAll(res.Body)
				res.Body.Close()
				if err == nil && res.StatusCode != http.StatusBadGateway {
					t.Errorf("length %q, %s: the client read %d bytes and a clean end; want an error", length, coding, len(body))
				}
			}
		}
	})
}

func TestCompressTrailers(t *testing.T) {
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Trailer", "X-Announced")
		io.WriteString(w, prose(2000))
		w.Header().Set("X-Announced", "a")
		w.Header().Set(http.TrailerPrefix+"X-Surprise", "b")
	})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, raw := do(t, c, accepting(t, "GET", url, "gzip"))
		if body := decode(t, res, raw); body != prose(2000) || res.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("body has %d bytes in %q; want 2000 in gzip", len(body), res.Header.Get("Content-Encoding"))
		}
		if a, b := res.Trailer.Get("X-Announced"), res.Trailer.Get("X-Surprise"); a != "a" || b != "b" {
			t.Errorf("trailers = %v; want both", res.Trailer)
		}
	})
}

func TestCompressPassesInterim(t *testing.T) {
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, prose(2000))
	})
	for _, p := range []string{"h1", "h2"} { // quic-go's client tells of none
		t.Run(p, func(t *testing.T) {
			hints := ""
			req := accepting(t, "GET", "https://"+host, "gzip")
			req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
				Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					hints = fmt.Sprint(code, h.Get("Link"), h.Get("Content-Encoding"))
					return nil
				},
			}))
			res, raw := do(t, r.client(t, p), req)
			if want := "103</a.css>; rel=preload"; hints != want {
				t.Errorf("interim answer = %q; want %q", hints, want)
			}
			if decode(t, res, raw) != prose(2000) {
				t.Error("the final answer did not survive")
			}
		})
	}
}

// A handler that declares one length and writes another is not covered up.
func TestCompressWrongLength(t *testing.T) {
	for _, tt := range []struct {
		declared, written int
		want              error
	}{
		{1000, 1000, nil},
		{2000, 1000, io.ErrUnexpectedEOF},
		{1_000_000, 1000, io.ErrUnexpectedEOF},
		{600, 1000, http.ErrContentLength},
	} {
		c := newCompressor(httptest.NewRecorder(), accepting(t, "GET", "/", "gzip"), nil)
		c.Header().Set("Content-Type", "text/html")
		c.Header().Set("Content-Length", strconv.Itoa(tt.declared))
		_, err := io.WriteString(c, prose(tt.written))
		if err == nil {
			err = c.Close()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("%d bytes declared, %d written: %v; want %v", tt.declared, tt.written, err, tt.want)
		}
	}
}

// brokenWriter fails as a client that went away.
type brokenWriter struct{ nopWriter }

var errBroken = errors.New("broken")

func (brokenWriter) Write([]byte) (int, error) { return 0, errBroken }

func TestCompressReportsWriteErrors(t *testing.T) {
	for _, coding := range []string{"gzip", "zstd"} {
		c := newCompressor(brokenWriter{nopWriter{http.Header{"Content-Type": {"text/html"}}}}, accepting(t, "GET", "/", coding), nil)
		_, err := io.WriteString(c, prose(2<<20))
		if err == nil {
			err = c.Close()
		}
		if !errors.Is(err, errBroken) {
			t.Errorf("%s: error = %v; want the writer's", coding, err)
		}
	}
}

func TestCompressUnwraps(t *testing.T) {
	done := make(chan error, 1)
	e := serve(t, usual(t), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := newCompressor(w, r, nil)
		done <- http.NewResponseController(c).SetWriteDeadline(time.Now().Add(time.Minute))
		c.Close()
	}))
	get(t, e.client(t, "h1"), "https://"+host)
	if err := <-done; err != nil {
		t.Errorf("SetWriteDeadline through the compressor: %v", err)
	}
}

// The tools that people have read what we write.
func TestCompressForeignDecoders(t *testing.T) {
	want := prose(300_000)
	r := compressRig(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		if r.FormValue("n") != "" {
			w.Header().Set("Content-Length", r.FormValue("n"))
		}
		n, err := strconv.Atoi(r.FormValue("n"))
		if err != nil {
			n = len(want)
		}
		io.WriteString(w, want[:n])
	})
	for _, coding := range []string{"gzip", "zstd"} {
		for _, query := range []string{"", "?n=5000", "?n=300000"} {
			t.Run(coding+query, func(t *testing.T) {
				tool, err := exec.LookPath(coding)
				if err != nil {
					t.Skipf("%s is not installed", coding)
				}
				_, raw := do(t, r.client(t, "h1"), accepting(t, "GET", "https://"+host+"/"+query, coding))
				cmd := exec.Command(tool, "-dc")
				cmd.Stdin = strings.NewReader(raw)
				got, err := cmd.Output()
				if err != nil || !strings.HasPrefix(want, string(got)) || len(got) < 5000 {
					t.Errorf("%s -dc gives %d bytes, %v", coding, len(got), err)
				}
			})
		}
	}
	t.Run("curl", func(t *testing.T) {
		curl, err := exec.LookPath("curl")
		if err != nil {
			t.Skip("curl is not installed")
		}
		_, port, _ := strings.Cut(r.addr, ":")
		for _, version := range []string{"--http1.1", "--http2"} {
			got, err := exec.Command(curl, "-sSk", "--compressed", version, "--noproxy", "*", "--max-time", "20",
				"--resolve", host+":"+port+":127.0.0.1", "https://"+host+":"+port+"/").Output()
			if err != nil || string(got) != want {
				t.Errorf("curl --compressed %s gives %d bytes, %v; want %d", version, len(got), err, len(want))
			}
		}
	})
}

func compressOnce(accept string, body []byte, known bool) func() {
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Accept-Encoding", accept)
	w := nopWriter{make(http.Header, 8)}
	contentType, length := []string{"text/html; charset=utf-8"}, []string{strconv.Itoa(len(body))}
	return func() {
		clear(w.h)
		w.h["Content-Type"] = contentType
		if known {
			w.h["Content-Length"] = length
		}
		c := newCompressor(w, r, nil)
		c.WriteHeader(200)
		c.Write(body)
		c.Close()
	}
}

func TestCompressAllocations(t *testing.T) {
	if lifetime.Poison {
		t.Skip("the race detector empties pools at random")
	}
	body := []byte(prose(50 << 10))
	for _, tt := range []struct {
		name, accept string
		known        bool
		want         float64
	}{
		// The compressWriter and Vary's slice.
		{"identity", "", true, 2},
		// And the slice of Content-Encoding; with the length its text and slice.
		{"gzip, unknown length", "gzip", false, 3},
		{"zstd, unknown length", "zstd", false, 3},
		{"gzip, whole", "gzip", true, 5},
		{"zstd, whole", "zstd", true, 5},
	} {
		once := compressOnce(tt.accept, body, tt.known)
		once() // fills the pools
		if n := testing.AllocsPerRun(200, once); n > tt.want {
			t.Errorf("%s: %v allocations; want at most %v", tt.name, n, tt.want)
		}
	}
}

func BenchmarkCompress(b *testing.B) {
	body := bytes.Clone([]byte(prose(50 << 10)))
	for _, accept := range []string{"identity", "gzip", "zstd"} {
		for _, known := range []bool{true, false} {
			b.Run(fmt.Sprintf("%s/known=%v", accept, known), func(b *testing.B) {
				once := compressOnce(accept, body, known)
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					once()
				}
			})
		}
	}
}

package logging_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"detour/logging"
)

func TestAccessLogDescribesARequestOnEveryProtocol(t *testing.T) {
	for _, tt := range []struct{ proto, request, alpn string }{
		{"h1", "HTTP/1.1", ""},
		{"h2", "HTTP/2.0", "h2"},
		{"h3", "HTTP/3.0", "h3"},
	} {
		t.Run(tt.proto, func(t *testing.T) {
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				rec := logging.RecordFrom(w)
				rec.Action, rec.Upstream, rec.RequestID = "proxy", "10.1.1.4:80", "id1"
				rec.ClientIP = "192.0.2.9"
				io.Copy(io.Discard, r.Body)
				w.Header().Set("Set-Cookie", "session=secret")
				w.Header().Set("Location", "/?token=secret")
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusCreated)
				io.WriteString(w, "hello ")
				if err := http.NewResponseController(w).Flush(); err != nil {
					t.Errorf("Flush() = %v", err)
				}
				if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Errorf("SetWriteDeadline() = %v", err)
				}
				w.Write([]byte("world"))
			})
			client, url := s.client(tt.proto)
			req, _ := http.NewRequest("POST", url+"/a%2Fb?x=1&Token=secret", strings.NewReader("12345678"))
			req.Host = "blog.example.com"
			req.Header.Set("Cookie", "a=secret")
			req.Header.Set("Authorization", "Basic secret")
			req.Header.Set("Referer", "https://x/?password=secret&y=2")
			req.Header.Set("User-Agent", "test/1")
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()

			e := s.lines(1)[0]
			if e.Request.TLS == nil {
				t.Fatal("tls is absent")
			}
			if e.TS < 1.7e9 || e.Duration <= 0 || e.Duration > 10 {
				t.Errorf("ts = %v, duration = %v", e.TS, e.Duration)
			}
			if e.Request.RemotePort == "" || e.Request.TLS.CipherSuite == 0 {
				t.Errorf("remote_port = %q, cipher_suite = %d", e.Request.RemotePort, e.Request.TLS.CipherSuite)
			}
			for _, name := range []string{"Content-Length", "Accept-Encoding"} {
				delete(e.Request.Headers, name)
			}
			for _, name := range []string{"Date", "Content-Type"} {
				delete(e.RespHeaders, name)
			}
			var want entry
			want.Level, want.Logger, want.Msg = "info", "http.log.access.blog", "handled request"
			want.TS, want.Duration, want.Request.RemotePort = e.TS, e.Duration, e.Request.RemotePort
			want.Request.RemoteIP, want.Request.ClientIP = "127.0.0.1", "192.0.2.9"
			want.Request.Proto, want.Request.Method, want.Request.Host = tt.request, "POST", "blog.example.com"
			want.Request.URI = "/a%2Fb?x=1&Token=REDACTED"
			want.Request.Headers = map[string][]string{
				"Cookie": {"REDACTED"}, "Authorization": {"REDACTED"}, "User-Agent": {"test/1"},
				"Referer": {"https://x/?password=REDACTED&y=2"},
			}
			tlsWant := *e.Request.TLS
			tlsWant.Resumed, tlsWant.Version, tlsWant.Proto, tlsWant.ServerName, tlsWant.ECH = false, 772, tt.alpn, "example.com", false
			want.Request.TLS = &tlsWant
			want.BytesRead, want.Size, want.Status = 8, 11, 201
			want.RespHeaders = map[string][]string{"Set-Cookie": {"REDACTED"}, "Location": {"/?token=REDACTED"}}
			want.Action, want.Upstream, want.RequestID = "proxy", "10.1.1.4:80", "id1"
			if diff := cmp.Diff(want, e); diff != "" {
				t.Errorf("line (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAccessLogStatusAndSize(t *testing.T) {
	tests := []struct {
		name    string
		method  string
		handler http.HandlerFunc
		status  int
		size    int64
		level   string
		err     string
	}{
		{"nothing said", "GET", func(http.ResponseWriter, *http.Request) {}, 200, 0, "info", ""},
		{"body only", "GET", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "abc") }, 200, 3, "info", ""},
		{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "abc") }, 200, 0, "info", ""},
		{"204", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204); io.WriteString(w, "abc") }, 204, 0, "info", ""},
		{"304", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304); w.Write([]byte("abc")) }, 304, 0, "info", ""},
		{"copied", "GET", func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, strings.NewReader(strings.Repeat("a", 1<<20)))
		}, 200, 1 << 20, "info", ""},
		{"first status counts", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); w.WriteHeader(200) }, 404, 0, "info", ""},
		{"flushed", "GET", func(w http.ResponseWriter, _ *http.Request) { w.(http.Flusher).Flush() }, 200, 0, "info", ""},
		{"server error", "GET", func(w http.ResponseWriter, r *http.Request) {
			logging.RecordFrom(w).Err = errors.New("dial: refused")
			w.WriteHeader(502)
		}, 502, 0, "error", "dial: refused"},
		{"client gone", "GET", func(w http.ResponseWriter, r *http.Request) {
			logging.RecordFrom(w).Status = logging.StatusClientGone
		}, 499, 0, "info", ""},
		{"panic", "GET", func(http.ResponseWriter, *http.Request) { panic("oh") }, 500, 0, "error", "panic: oh"},
		{"abort in the body", "GET", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "abc")
			panic(http.ErrAbortHandler)
		}, 200, 3, "info", "net/http: abort Handler"},
	}
	for _, tt := range tests {
		for _, proto := range []string{"h1", "h2", "h3"} {
			t.Run(tt.name+" "+proto, func(t *testing.T) {
				t.Parallel()
				s := newSite(t, tt.handler)
				client, url := s.client(proto)
				req, _ := http.NewRequest(tt.method, url+"/", nil)
				if res, err := client.Do(req); err == nil {
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				e := s.lines(1)[0]
				if e.Status != tt.status || e.Size != tt.size || e.Level != tt.level || e.Error != tt.err {
					t.Errorf("status, size, level, error = %d, %d, %q, %q; want %d, %d, %q, %q",
						e.Status, e.Size, e.Level, e.Error, tt.status, tt.size, tt.level, tt.err)
				}
			})
		}
	}
}

func TestAccessLogPassesPanicsOn(t *testing.T) {
	for _, value := range []any{http.ErrAbortHandler, "oh"} {
		h := logging.AccessLog(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(value) }), nil)
		func() {
			defer func() {
				if got := recover(); got != value {
					t.Errorf("recover() = %v; want %v", got, value)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
	}
}

func TestAccessLogChoosesTheSink(t *testing.T) {
	dir := t.TempDir()
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	own := files.Sink(logging.SinkOptions{Path: filepath.Join(dir, "own.log"), Name: "own"})
	rest := files.Sink(logging.SinkOptions{Path: filepath.Join(dir, "rest.log")})
	h := logging.AccessLog(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch rec := logging.RecordFrom(w); r.URL.Path {
		case "/own":
			rec.Sink = own
		case "/none":
			rec.Discard = true
		}
	}), func() *logging.Sink { return rest })
	for _, path := range []string{"/own", "/none", "/rest"} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"own.log": "http.log.access.own /own", "rest.log": "http.log.access /rest"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		all := parse(t, data)
		if len(all) != 1 || all[0].Logger+" "+all[0].Request.URI != want {
			t.Errorf("%s = %s; want one line of %q", name, data, want)
		}
	}
}

func TestRecordFromIsNeverNil(t *testing.T) {
	rec := logging.RecordFrom(httptest.NewRecorder())
	if rec == nil {
		t.Fatal("RecordFrom outside AccessLog = nil")
	}
	rec.Upgraded(101) // does nothing
}

// wrapped is a ResponseWriter as a middleware makes it.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestRecordFromFindsItThroughWrappers(t *testing.T) {
	h := logging.AccessLog(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		rec := logging.RecordFrom(w)
		if logging.RecordFrom(wrapped{wrapped{w}}) != rec {
			t.Error("a wrapped ResponseWriter has another Record")
		}
	}), nil)
	h.ServeHTTP(wrapped{httptest.NewRecorder()}, httptest.NewRequest("GET", "/", nil))
}

// What the server fills in behind the body arrives at the handler.
func TestAccessLogPassesTrailersOn(t *testing.T) {
	r := httptest.NewRequest("POST", "/", io.MultiReader(strings.NewReader("abc")))
	h := logging.AccessLog(http.HandlerFunc(func(_ http.ResponseWriter, got *http.Request) {
		r.Trailer.Set("X-Sum", "42")
		if body, err := io.ReadAll(got.Body); string(body) != "abc" || err != nil || got.Trailer.Get("X-Sum") != "42" {
			t.Errorf("body, trailer = %q %v, %v; want abc and X-Sum 42", body, err, got.Trailer)
		}
	}), nil)
	h.ServeHTTP(httptest.NewRecorder(), r)
}

// A client that waits for "100 Continue" gets an answer that needs no body at
// once. A server that no longer knows its own body would wait for it.
func TestAccessLogLeavesAnUnreadBodyToTheServer(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	conn, err := tls.Dial("tcp", s.tcp.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != http.StatusForbidden || !res.Close {
		t.Errorf("answer = %+v, %v; want 403 and a close", res, err)
	}
}

func TestAccessLogClientGone(t *testing.T) {
	for _, proto := range []string{"h1", "h2", "h3"} {
		t.Run(proto, func(t *testing.T) {
			arrived := make(chan struct{})
			s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
				close(arrived)
				<-r.Context().Done()
			})
			client, url := s.client(proto)
			ctx, cancel := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			go func() { <-arrived; cancel() }()
			if _, err := client.Do(req); err == nil {
				t.Fatal("the request was answered")
			}
			if e := s.lines(1)[0]; e.Status != logging.StatusClientGone || e.Level != "info" {
				t.Errorf("status, level = %d, %q; want 499, info", e.Status, e.Level)
			}
		})
	}
}

// An upstream's client may read on in a body whose handler has returned; what it
// reads belongs to no other request.
func TestAccessLogBodyOutlivesItsHandler(t *testing.T) {
	s := newSite(t, func(http.ResponseWriter, *http.Request) {})
	var body io.Reader
	h := logging.AccessLog(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == "POST" {
			body = r.Body
			return
		}
		if got, err := io.ReadAll(body); err != nil || len(got) > 3 {
			t.Errorf("read in the body of the first request: %q, %v", got, err)
		}
	}), func() *logging.Sink { return s.sink })
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader("abc")))
	for range 3 {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	for _, e := range s.lines(4) {
		if e.BytesRead != 0 {
			t.Errorf("%s: bytes_read = %d; want 0", e.Request.Method, e.BytesRead)
		}
	}
}

package logging_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"detour/logging"
)

// site is a handler under AccessLog behind real TLS listeners, and its log.
type site struct {
	t     *testing.T
	files *logging.Files
	sink  *logging.Sink
	path  string
	tcp   *httptest.Server
}

func newSite(t *testing.T, h http.HandlerFunc) *site {
	t.Helper()
	s := &site{t: t, path: filepath.Join(t.TempDir(), "blog.log")}
	s.files = logging.NewFiles(slog.New(slog.DiscardHandler))
	s.sink = s.files.Sink(logging.SinkOptions{Path: s.path, Name: "blog", RedactQuery: []string{"token", "password"}})
	s.tcp = httptest.NewUnstartedServer(logging.AccessLog(h, func() *logging.Sink { return s.sink }))
	s.tcp.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.tcp.EnableHTTP2 = true
	s.tcp.StartTLS()
	t.Cleanup(func() {
		s.tcp.Close()
		s.files.Close()
	})
	return s
}

// client returns a client that speaks proto ("h1", "h2", "h3"), and the URL.
func (s *site) client(proto string) (*http.Client, string) {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.tcp.Certificate())
	conf := &tls.Config{RootCAs: roots, ServerName: "example.com"}
	noFollow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if proto == "h3" {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			s.t.Fatal(err)
		}
		server := &http3.Server{
			Handler:   s.tcp.Config.Handler,
			TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: s.tcp.TLS.Certificates}),
			Logger:    slog.New(slog.DiscardHandler),
		}
		done := make(chan struct{})
		go func() { defer close(done); _ = server.Serve(udp) }()
		transport := &http3.Transport{TLSClientConfig: conf}
		s.t.Cleanup(func() {
			transport.Close()
			server.Close()
			udp.Close()
			<-done
		})
		return &http.Client{Transport: transport, CheckRedirect: noFollow}, "https://" + udp.LocalAddr().String()
	}
	transport := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: proto == "h2"}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: noFollow}, s.tcp.URL
}

// entry is what the tests look at in a line.
type entry struct {
	Level   string  `json:"level"`
	TS      float64 `json:"ts"`
	Logger  string  `json:"logger"`
	Msg     string  `json:"msg"`
	Request struct {
		RemoteIP   string              `json:"remote_ip"`
		RemotePort string              `json:"remote_port"`
		ClientIP   string              `json:"client_ip"`
		Proto      string              `json:"proto"`
		Method     string              `json:"method"`
		Host       string              `json:"host"`
		URI        string              `json:"uri"`
		Headers    map[string][]string `json:"headers"`
		TLS        *struct {
			Resumed     bool   `json:"resumed"`
			Version     int    `json:"version"`
			CipherSuite int    `json:"cipher_suite"`
			Proto       string `json:"proto"`
			ServerName  string `json:"server_name"`
			ECH         bool   `json:"ech"`
		} `json:"tls"`
	} `json:"request"`
	BytesRead   int64               `json:"bytes_read"`
	UserID      string              `json:"user_id"`
	Duration    float64             `json:"duration"`
	Size        int64               `json:"size"`
	Status      int                 `json:"status"`
	RespHeaders map[string][]string `json:"resp_headers"`
	Action      string              `json:"action"`
	Upstream    string              `json:"upstream"`
	RequestID   string              `json:"request_id"`
	Connection  string              `json:"connection"`
	Error       string              `json:"error"`
}

// lines waits until n lines are in the log and returns them.
func (s *site) lines(n int) []entry {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		s.files.Reopen() // flushes
		data, err := os.ReadFile(s.path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			s.t.Fatal(err)
		}
		if got := bytes.Count(data, []byte("\n")); got >= n {
			if got > n {
				s.t.Fatalf("%d lines; want %d:\n%s", got, n, data)
			}
			return parse(s.t, data)
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("log has not got %d lines:\n%s", n, data)
		}
		time.Sleep(time.Millisecond)
	}
}

func parse(t *testing.T, data []byte) []entry {
	t.Helper()
	var all []entry
	for line := range bytes.Lines(data) {
		var e entry
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

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

// An upgrade whose client sends bytes together with the handshake: all are
// counted, none is lost, and the half-close arrives.
func TestAccessLogUpgrade(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		rec := logging.RecordFrom(w)
		rec.Action = "proxy"
		w.WriteHeader(http.StatusSwitchingProtocols)
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Errorf("Hijack() = %v", err)
			return
		}
		defer conn.Close()
		rec.Upgraded(http.StatusSwitchingProtocols)
		rec.Upgraded(http.StatusSwitchingProtocols) // once is enough
		early := make([]byte, rw.Reader.Buffered())
		io.ReadFull(rw, early)
		line, err := rw.ReadString('\n')
		if err != nil {
			t.Errorf("read: %v", err)
		}
		rw.WriteString("echo " + string(early) + line)
		rw.Flush()
		if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Errorf("CloseWrite() = %v", err)
		}
		io.Copy(io.Discard, conn)
	})
	conf := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	conn, err := tls.Dial("tcp", s.tcp.Listener.Addr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("ReadResponse() = %v, %v", res, err)
	}
	opened := s.lines(1)[0]
	if opened.Status != 101 || opened.Connection != "opened" || opened.Size != 0 {
		t.Errorf("opening line: %+v", opened)
	}
	io.WriteString(conn, "late\n")
	answer, err := io.ReadAll(br)
	if want := "echo early late\n"; string(answer) != want || err != nil {
		t.Errorf("answer = %q, %v; want %q", answer, err, want)
	}
	conn.CloseWrite()
	closed := s.lines(2)[1]
	if closed.Status != 101 || closed.Connection != "closed" || closed.Size != int64(len("echo early late\n")) || closed.BytesRead != int64(len("early late\n")) {
		t.Errorf("closing line: %+v", closed)
	}
	if closed.Duration <= opened.Duration {
		t.Errorf("duration = %v; want more than %v", closed.Duration, opened.Duration)
	}
}

// A WebSocket over HTTP/3 (RFC 9220).
func TestAccessLogExtendedConnect(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("Flush() = %v", err)
		}
		logging.RecordFrom(w).Upgraded(http.StatusOK)
		io.CopyN(w, r.Body, 5)
	})
	client, url := s.client("h3")
	conf := client.Transport.(*http3.Transport).TLSClientConfig.Clone()
	conf.NextProtos = []string{http3.NextProtoH3}
	conn, err := quic.DialAddr(t.Context(), strings.TrimPrefix(url, "https://"), conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	stream, err := new(http3.Transport).NewClientConn(conn).OpenRequestStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodConnect, url+"/ws", nil)
	req.Proto = "websocket"
	if err := stream.SendRequestHeader(req); err != nil {
		t.Fatal(err)
	}
	if res, err := stream.ReadResponse(); err != nil || res.StatusCode != 200 {
		t.Fatalf("ReadResponse() = %v, %v", res, err)
	}
	opened := s.lines(1)[0]
	io.WriteString(stream, "hello")
	if answer, err := io.ReadAll(stream); string(answer) != "hello" || err != nil {
		t.Errorf("answer = %q, %v; want hello", answer, err)
	}
	closed := s.lines(2)[1]
	for _, e := range []entry{opened, closed} {
		if e.Status != 200 || e.Request.Method != "CONNECT" || e.Request.Proto != "HTTP/3.0" || e.Request.URI != "/ws" {
			t.Errorf("line: %+v", e)
		}
	}
	if opened.Connection != "opened" || closed.Connection != "closed" || closed.Size != 5 || closed.BytesRead != 5 {
		t.Errorf("opened: %+v\nclosed: %+v", opened, closed)
	}
}

func TestAccessLogHijackIsNotOfferedOverHTTP2(t *testing.T) {
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := http.NewResponseController(w).Hijack(); !errors.Is(err, http.ErrNotSupported) {
			t.Errorf("Hijack() = %v; want ErrNotSupported", err)
		}
		if _, ok := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(http3.HTTPStreamer); ok != (r.ProtoMajor == 3) {
			t.Errorf("Unwrap leads to an HTTPStreamer = %v on %s", ok, r.Proto)
		}
	})
	for i, proto := range []string{"h2", "h3"} {
		client, url := s.client(proto)
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if e := s.lines(i + 1)[i]; e.Status != 200 {
			t.Errorf("%s: status = %d; want 200", proto, e.Status)
		}
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

package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour/engine/lifetime"
)

// briefTransport answers each request with its own path, over a connection that
// it had. It looks at the request, and at its context, until the body has ended.
type briefTransport struct{ requests atomic.Int64 }

func (b *briefTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	b.requests.Add(1)
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn(r.URL.Host)
	runtime.Gosched()
	trace.GotConn(httptrace.GotConnInfo{Reused: true})
	trace.GotFirstResponseByte()
	return &http.Response{
		StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(r.URL.Opaque)),
		Header: http.Header{"X-Seen": {r.URL.Opaque}}, Body: &briefBody{r: r}, Request: r,
	}, nil
}

// briefBody is the request's path in two pieces.
type briefBody struct {
	r      *http.Request
	n      int
	closed atomic.Bool
}

func (b *briefBody) Read(p []byte) (int, error) {
	runtime.Gosched()
	if b.closed.Load() {
		return 0, errors.New("closed")
	}
	if err := b.r.Context().Err(); err != nil {
		return 0, err
	}
	rest := b.r.URL.Opaque[b.n:]
	if len(rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, rest[:(len(rest)+1)/2])
	b.n += n
	return n, nil
}

func (b *briefBody) Close() error { b.closed.Store(true); return nil }

// echoWriter keeps what it is given.
type echoWriter struct {
	quietWriter
	body strings.Builder
}

func (w *echoWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

// serveOne serves one request for path and reports whether it was answered as
// path's, and not broken off.
func serveOne(h http.Handler, path string) (answered bool) {
	r := usualRequest()
	r.RequestURI, r.URL.Path, r.URL.RawQuery = path, path, ""
	w := &echoWriter{quietWriter: quietWriter{header: make(http.Header)}}
	defer func() {
		if panicked := recover(); panicked != nil && panicked != http.ErrAbortHandler {
			panic(panicked)
		}
	}()
	h.ServeHTTP(w, r)
	return w.status == 200 && w.body.String() == path && first(w.header["X-Seen"]) == path
}

// What is over serves another request only if Cut, which comes at any time,
// does not know it: then it would cut the wrong one.
func TestCutSparesWhatIsReused(t *testing.T) {
	transport := new(briefTransport)
	upstream, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, transport)
	if err != nil {
		t.Fatal(err)
	}
	upstream.brief = true
	route := &Route{
		Host: host, Names: []string{host}, Pool: NewPool([]*Upstream{upstream}, nil), Stats: new(Stats),
		Draining: true, Session: NewSession(SessionSigns{Paths: []string{"/session"}}),
	}
	table, err := NewTable(TableOptions{Routes: []*Route{route}, Bypass: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(HandlerOptions{Table: table})

	stop := make(chan struct{})
	var running sync.WaitGroup
	var cut atomic.Int64
	for _, path := range []string{"/session/a", "/session/b", "/session/c", "/bypassed/a", "/bypassed/b"} {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch answered := serveOne(h, path); {
				case answered:
				case strings.HasPrefix(path, "/session"):
					cut.Add(1)
				default:
					t.Errorf("%s: a request that Cut spares was broken off or got another one's answer", path)
				}
			}
		})
	}
	over := &deadline{t.Context(), make(chan struct{})}
	close(over.passed)
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline) && !t.Failed(); {
		h.Cut(over, host, 1001)
	}
	close(stop)
	running.Wait()
	if cut.Load() == 0 {
		t.Error("nothing was cut in the middle")
	}
	t.Logf("%d of %d requests cut", cut.Load(), transport.requests.Load())
	if n := upstream.InFlight() + route.Stats.InFlight.Load() + route.Stats.Bypassed.Load(); n != 0 {
		t.Errorf("%d requests in flight after the last", n)
	}
}

// Requests with a body are forwarded with what others used, while the upstream
// answers before, or without, having read all of it.
func TestUploadsWithWhatIsReused(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.URL.Path)
		w.Header().Set("Content-Type", "application/octet-stream") // is not compressed
		if strings.HasPrefix(r.URL.Path, "/refused") {
			io.WriteString(w, r.URL.Path)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Trailer.Get("X-Sum") != r.Header.Get("X-Sum") {
			w.WriteHeader(http.StatusBadRequest)
		}
		w.Write(body)
	}))
	defer upstream.Close()
	h := chain(t, UpstreamOptions{Scheme: "http", Address: upstream.Listener.Addr().String(), Engine: true}, nil, nil)
	var running sync.WaitGroup
	for g := range 4 {
		running.Go(func() {
			for i := range 200 {
				path := fmt.Sprint([]string{"/echo/", "/refused/"}[i/3%2], g, "/", i, "/")
				if i%5 == 0 {
					path += strings.Repeat("long/", 10_000)
				}
				r := usualRequest()
				r.Method, r.RequestURI, r.URL.Path, r.URL.RawQuery = http.MethodPost, path[:min(len(path), 60)], path, ""
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(path)), int64(len(path))
				if i%2 == 0 {
					r.ContentLength, r.Trailer = -1, http.Header{"X-Sum": {"7"}}
					r.Header["X-Sum"] = []string{"7"}
				}
				want := path
				if strings.HasPrefix(path, "/refused") {
					want = r.RequestURI
				}
				w := &echoWriter{quietWriter: quietWriter{header: make(http.Header)}}
				h.ServeHTTP(w, r)
				if w.status != 200 || w.body.String() != want || first(w.header["X-Seen"]) != r.RequestURI {
					t.Errorf("%s: %d with %d bytes; want 200 with %d", r.RequestURI, w.status, w.body.Len(), len(want))
				}
			}
		})
	}
	running.Wait()
}

// A forwarding that somebody may know is left to the garbage collector.
func TestRecyclable(t *testing.T) {
	tests := []struct {
		name string
		with func(*forwarding)
		want bool
	}{
		{"usual", func(*forwarding) {}, true},
		{"answer broke off", func(f *forwarding) { f.whole = false }, false},
		{"transport of net/http", func(f *forwarding) { f.lasting = true }, false},
		{"request body", func(f *forwarding) { f.body = &requestBody{whole: true} }, true},
		{"rest of a request body", func(f *forwarding) { f.body = new(requestBody) }, false},
		{"upgrade", func(f *forwarding) { f.upgrading = true }, false},
		{"dialled", func(f *forwarding) { f.reused.Store(false) }, false},
		{"second attempt", func(f *forwarding) { f.getConn("") }, false},
		{"no connection", func(f *forwarding) { f.connects.Store(0) }, false},
	}
	for _, tt := range tests {
		f := newForwarding()
		f.whole = true
		f.getConn("")
		f.gotConn(httptrace.GotConnInfo{Reused: true})
		tt.with(f)
		if got := f.recyclable(); got != tt.want {
			t.Errorf("%s: recyclable = %v; want %v", tt.name, got, tt.want)
		}
	}
}

// A forwarding that serves again has nothing of the request before, and one
// that had a large header gets a small map.
func TestRecycle(t *testing.T) {
	f := newForwarding()
	f.r, f.parent = usualRequest(), t.Context()
	f.began.Store(true)
	for range 2 * usualFields {
		f.header[newID()] = nil
	}
	f.values[0], f.url.Host, f.out.Host = "a", "b", "c"
	f.out.Body, f.out.ContentLength, f.out.Trailer = http.NoBody, 1, http.Header{}
	f.recycle()
	if f.r != nil || f.parent != nil || f.began.Load() || len(f.header) != 0 || f.values[0] != "" || f.url.Host != "" ||
		f.out.Host != "" || f.out.Body != nil || f.out.ContentLength != 0 || f.out.Trailer != nil {
		t.Errorf("recycled: %+v", f)
	}
	if lifetime.Poison && (f.header != nil || f.out.URL != nil || newForwarding() == f) {
		t.Error("with the race detector what is over is used again")
	}
}

// Each of these allocations is named where it is made; one more is a regression.
func TestAllocations(t *testing.T) {
	if lifetime.Poison {
		t.Skip("the race detector's build does not recycle")
	}
	for _, tt := range []struct {
		name   string
		h      http.Handler
		status int
		most   float64
	}{
		// The request's id; of the answer the text of its head, and its values.
		{"proxied", chain(t, UpstreamOptions{Scheme: "http", Address: usualUpstream(t), Engine: true}, nil, nil), 200, 3},
		// The id, the Location and its place in the header.
		{"offline", chain(t, UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, newCannedTransport(), switchedOff), 302, 3},
	} {
		serve := serveUsual(t, tt.h, tt.status)
		serve() // dials
		if got := testing.AllocsPerRun(1000, serve); got > tt.most {
			t.Errorf("%s: %v allocations a request; want at most %v", tt.name, got, tt.most)
		}
	}
}

var _ context.Context = (*forwarding)(nil)

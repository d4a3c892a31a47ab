package proxy

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/logging"

	"github.com/coder/websocket"
)

// busy is an upstream whose requests last until they are ended.
func busy(closed chan websocket.StatusCode) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		_, _, err = c.Read(r.Context())
		closed <- websocket.CloseStatus(err)
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/download", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some of it\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	return mux
}

// deadline is a context whose deadline passes when the test says so.
type deadline struct {
	context.Context
	passed chan struct{}
}

func (d *deadline) Done() <-chan struct{} { return d.passed }

func (d *deadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// At the end of a drain WebSockets get their close frame, event streams a clean
// end, and what is left is aborted when the time is over.
func TestCut(t *testing.T) {
	for _, compress := range []bool{false, true} {
		closed := make(chan websocket.StatusCode, 1)
		r := newRig(t, busy(closed), rigOptions{route: func(rt *Route) { rt.Compress = compress }})
		for _, draining := range []bool{false, true} {
			r.reroute(t, func(rt *Route) {
				rt.Online, rt.Draining = !draining, draining
				rt.Session = NewSession(SessionSigns{Paths: []string{"/"}})
			})
			eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
				protocol := t.Name()[strings.LastIndexByte(t.Name(), '/')+1:]
				testCut(t, r, protocol, c, url, closed)
			})
		}
	}
}

func testCut(t *testing.T, r *rig, protocol string, c *http.Client, url string, closed chan websocket.StatusCode) {
	stats := r.route.Stats
	socket := openWebSocket(t, r.edge, protocol, "/ws")
	open := func(path string) *bufio.Reader {
		t.Helper()
		res, err := c.Do(with(t, "GET", url+path, "Accept-Encoding: identity", nil))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		body := bufio.NewReader(res.Body)
		if _, err := body.ReadString('\n'); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return body
	}
	events, download := open("/events"), open("/download")
	silent := make(chan error, 1)
	go func() {
		res, err := c.Do(with(t, "GET", url+"/silent", "", nil))
		if err == nil {
			res.Body.Close()
		}
		silent <- err
	}()
	eventually(t, "four in flight, two of them streams", func() bool { return stats.InFlight.Load() == 4 && stats.Streams.Load() == 2 })

	ctx := &deadline{t.Context(), make(chan struct{})}
	cut := make(chan struct{})
	go func() { defer close(cut); r.handler.Cut(ctx, host, 1001) }()

	if op, got := readFrame(t, socket); op != 8 || binary.BigEndian.Uint16(got) != 1001 {
		t.Errorf("WebSocket = opcode %d, % x; want close 1001", op, got)
	}
	if code := <-closed; code != websocket.StatusGoingAway {
		t.Errorf("the upstream of the WebSocket saw %v; want 1001", code)
	}
	socket.Write(wsFrame(8, []byte{3, 0xe9}))
	if rest, err := io.ReadAll(events); err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("event stream = %q, %v; want a clean end", rest, err)
	}
	eventually(t, "streams at their end, the others still there", func() bool { return stats.Streams.Load() == 0 && stats.InFlight.Load() == 2 })
	select {
	case <-cut:
		t.Error("Cut returned while requests had time left")
	default:
	}
	close(ctx.passed)
	<-cut
	if _, err := io.ReadAll(download); err == nil {
		t.Error("the download ended cleanly; want it aborted")
	}
	if err := <-silent; err == nil {
		t.Error("the request without an answer got one; want it aborted")
	}
	eventually(t, "nothing in flight", func() bool { return stats.InFlight.Load() == 0 && r.route.Pool.Members()[0].InFlight() == 0 })
}

// The access log says who cut a request: its client did not leave.
func TestCutIsLogged(t *testing.T) {
	for _, path := range []string{"/download", "/silent"} {
		r := newRig(t, busy(nil), rigOptions{})
		n := 0
		eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
			broken := ask(c, url+path)
			atUpstream(t, r, path)
			over, stop := context.WithDeadline(t.Context(), time.Unix(1, 0))
			defer stop()
			r.handler.Cut(over, host, 1001)
			if err := <-broken; err == nil {
				t.Error("the request ended cleanly; want it broken off")
			}
			n++
			if line := r.accessLog(t, n)[n-1]; line["status"] == 499.0 || line["error"] != errCut.Error() {
				t.Errorf("access log of %s = %v %v; want %q", path, line["status"], line["error"], errCut)
			}
		})
	}
}

// ask gets url in the background; what is sent says how it ended.
func ask(c *http.Client, url string) <-chan error {
	end := make(chan error, 1)
	go func() {
		res, err := c.Get(url)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
		end <- err
	}()
	return end
}

// atUpstream waits until r's only request is with its upstream, for /download
// in the middle of its answer.
func atUpstream(t testing.TB, r *rig, path string) {
	t.Helper()
	eventually(t, "request in flight", func() bool {
		x := &r.route.Stats.exchanges
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.first != nil && x.first.next == nil && r.route.Pool.Members()[0].InFlight() == 1 &&
			(path != "/download" || x.first.res.Load() != nil)
	})
}

// When the host comes back during the grace, what is still in flight stays.
func TestCutCalledOff(t *testing.T) {
	finish := make(chan struct{})
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "some of it, ")
		w.(http.Flusher).Flush()
		<-finish
		io.WriteString(w, "and the rest")
	}), rigOptions{})
	res, err := r.client(t, "h1").Get("https://" + host + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r.reroute(t, func(rt *Route) { rt.Online = false })
	ctx, back := context.WithCancel(t.Context())
	cut := make(chan struct{})
	go func() { defer close(cut); r.handler.Cut(ctx, host, 1001) }()
	eventually(t, "Cut waiting", func() bool {
		x := &r.route.Stats.exchanges
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.first != nil && x.first.gone != nil
	})
	r.reroute(t, func(rt *Route) { rt.Online = true })
	back()
	<-cut
	close(finish)
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != "some of it, and the rest" {
		t.Errorf("download = %q, %v; want all of it", body, err)
	}
}

// An upload that began while the host was online, to an upstream that does not
// take it, is cut too.
func TestCutStuckUpload(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	upstream := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) { <-stuck })
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: upstream}})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		body, end := new(zeros), make(chan error, 1)
		go func() {
			const size = 1 << 30
			req, _ := http.NewRequest("POST", url+"/", io.LimitReader(body, size))
			req.ContentLength = size
			res, err := c.Do(req)
			if err == nil {
				res.Body.Close()
			}
			end <- err
		}()
		before := int64(-1)
		eventually(t, "upload that is stuck", func() bool {
			time.Sleep(50 * time.Millisecond)
			now := body.taken.Load()
			same := now > 0 && now == before
			before = now
			return same
		})
		over, stop := context.WithDeadline(t.Context(), time.Unix(1, 0))
		defer stop()
		r.handler.Cut(over, host, 1001)
		eventually(t, "end of the upload", func() bool { return r.route.Stats.InFlight.Load() == 0 })
		<-end
	})
}

// Who lets himself through is not part of the drain.
func TestCutLeavesTheBypassed(t *testing.T) {
	r := newRig(t, busy(nil), rigOptions{route: func(rt *Route) { rt.Online = false }})
	table, err := NewTable(TableOptions{Routes: []*Route{r.route}, Bypass: loopback})
	if err != nil {
		t.Fatal(err)
	}
	r.handler.Swap(table)
	res, err := r.client(t, "h2").Get("https://" + host + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	r.handler.Cut(t.Context(), host, 1001) // waits for nobody
	r.handler.Cut(t.Context(), "unknown.example.test", 1001)
	stats := r.route.Stats
	if n := stats.Streams.Load(); n != 1 {
		t.Errorf("streams after Cut = %d; want 1", n)
	}
	if n, bypassed := stats.InFlight.Load(), stats.Bypassed.Load(); n != 0 || bypassed != 1 {
		t.Errorf("in flight after Cut = %d and %d bypassed; want 0, so that nobody waits for them, and 1", n, bypassed)
	}
	res.Body.Close()
	eventually(t, "end of the bypassed request", func() bool { return stats.Bypassed.Load() == 0 })
}

// Who was decided about when the host still drained, and comes to the upstream
// when Cut has looked, would be left over. It is answered by the new state.
func TestNothingBeginsAfterCut(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Error("the request reached the upstream")
	}), rigOptions{route: func(rt *Route) { rt.StatusPage, _ = ParseStatusPage("https://status.example{uri}") }})
	r.reroute(t, func(rt *Route) { rt.Online, rt.Draining = false, true })
	draining := r.route
	r.reroute(t, func(rt *Route) { rt.Draining = false })
	r.handler.Cut(t.Context(), host, 1001)

	w, req, rec := httptest.NewRecorder(), httptest.NewRequest("GET", "https://"+host+"/x", nil), new(logging.Record)
	r.handler.forward(w, req, draining, rec, origin{}, courseSession)
	if got := w.Result(); got.StatusCode != 302 || got.Header.Get("Location") != "https://status.example/x" || rec.Upstream != "" {
		t.Errorf("late request = %d %v, upstream %q; want 302 to the status page, and none", got.StatusCode, got.Header, rec.Upstream)
	}
}

// Cuts that come at any moment break off what is in flight and nothing else:
// an answer is whole or broken, and what comes afterwards is served.
func TestCutUnderFire(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer") }), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		over, stop := context.WithDeadline(t.Context(), time.Unix(1, 0))
		defer stop()
		done := make(chan struct{})
		var cutting sync.WaitGroup
		cutting.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					r.handler.Cut(over, host, 1001)
				}
			}
		})
		whole, broken := 0, 0
		// The machine may be too busy for any of the first hundred to be hit.
		for began := time.Now(); whole+broken < 100 || broken == 0 && time.Since(began) < 10*time.Second; {
			res, err := c.Get(url + "/")
			if err != nil {
				broken++
				continue
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			switch {
			case err != nil, res.StatusCode == http.StatusServiceUnavailable:
				broken++
			case res.StatusCode == 200 && string(body) == "answer":
				whole++
			default:
				t.Fatalf("GET = %d %q; want 200 whole, or a broken answer", res.StatusCode, body)
			}
		}
		close(done)
		cutting.Wait()
		if broken == 0 {
			t.Error("no request was cut")
		}
		for range 20 {
			if res, body := get(t, c, url+"/"); res.StatusCode != 200 || body != "answer" {
				t.Fatalf("after the cuts: GET = %d %q; want 200", res.StatusCode, body)
			}
		}
	})
}

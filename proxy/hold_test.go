package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// restartable is an upstream that can be stopped and started at one address.
type restartable struct {
	address string
	handler http.Handler
	server  *http.Server
}

func (u *restartable) start(t testing.TB) {
	t.Helper()
	if u.address == "" {
		u.address = deadAddress(t)
	}
	ln, err := net.Listen("tcp", u.address)
	if err != nil {
		t.Fatal(err)
	}
	u.server = &http.Server{Handler: u.handler}
	go u.server.Serve(ln)
	t.Cleanup(func() { u.server.Close() })
}

// An upstream restarts, without a word to anybody, under 200 requests a second.
func TestHoldLosesNothing(t *testing.T) {
	const requests, every, downAt, upAt = 120, 5 * time.Millisecond, 40, 90
	for _, hold := range []time.Duration{10 * time.Second, 0} {
		u := &restartable{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "answer") })}
		u.start(t)
		r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: u.address}, route: func(rt *Route) { rt.Hold = hold }})
		eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
			if hold == 0 && !strings.HasSuffix(t.Name(), "h1#01") {
				t.Skip("once is enough to see that it makes the difference")
			}
			var lost atomic.Int64
			var asking sync.WaitGroup
			tick := time.NewTicker(every)
			defer tick.Stop()
			for i := range requests {
				switch i {
				case downAt:
					u.server.Close()
				case upAt:
					u.start(t)
				}
				asking.Go(func() {
					res, err := c.Get(url + "/")
					if err != nil {
						t.Error(err)
						return
					}
					body, _ := io.ReadAll(res.Body)
					res.Body.Close()
					if res.StatusCode != 200 || string(body) != "answer" {
						lost.Add(1)
					}
				})
				<-tick.C
			}
			asking.Wait()
			if n := lost.Load(); (n > 0) != (hold == 0) {
				t.Errorf("hold %v: %d of %d requests lost", hold, n, requests)
			}
		})
		if n := inQueue(r); n != 0 {
			t.Errorf("%d requests still wait", n)
		}
	}
}

// hangingUp is a listener that resets its first connections.
type hangingUp struct {
	net.Listener
	left atomic.Int32
}

func (l *hangingUp) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil || l.left.Add(-1) < 0 {
			return conn, err
		}
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}

// While a machine starts, something may take connections and not get as far as
// a handshake. Nothing was sent then, so also a form waits.
func TestHoldThroughBrokenHandshakes(t *testing.T) {
	cert, _ := testCertificate()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	ln := &hangingUp{Listener: srv.Listener}
	srv.Listener = ln
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	r := newRig(t, nil, rigOptions{
		upstream: UpstreamOptions{Scheme: "https", Address: ln.Addr().String(), RootsPEM: testRootsPEM()},
		route:    func(rt *Route) { rt.Hold = 10 * time.Second },
	})
	ln.left.Store(2)
	res, body := do(t, r.client(t, "h2"), newRequest(t, "POST", "https://"+host+"/", strings.NewReader("order")))
	if res.StatusCode != 200 || body != "order" {
		t.Errorf("POST = %d %q; want 200 after two broken handshakes", res.StatusCode, body)
	}
}

// unwilling is a RoundTripper that refuses every request before it looks for a
// connection.
type unwilling struct{}

func (unwilling) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, &net.OpError{Op: "dial", Err: errors.New("not this request")}
}

// A request that can never be sent does not stand in the way of others.
func TestHoldIsForWantOfAConnection(t *testing.T) {
	r := newRig(t, nil, rigOptions{
		upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"},
		rt:       func(UpstreamOptions) http.RoundTripper { return unwilling{} },
		route:    func(rt *Route) { rt.Hold = time.Minute },
	})
	if res, _ := get(t, r.client(t, "h2"), "https://"+host+"/"); res.StatusCode != 502 {
		t.Errorf("GET = %d; want 502 at once", res.StatusCode)
	}
}

// heldRig serves host from an address where nobody listens yet.
func heldRig(t *testing.T, hold time.Duration, h http.Handler) (*rig, *restartable) {
	u := &restartable{address: deadAddress(t), handler: h}
	page, _ := ParseStatusPage("https://status.example{uri}")
	return newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: u.address}, route: func(rt *Route) {
		rt.Hold, rt.StatusPage = hold, page
	}}), u
}

// A form that is sent during a restart arrives whole, and its body waits at the
// client until then.
func TestHoldDoesNotReadTheBody(t *testing.T) {
	r, u := heldRig(t, 10*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != 1<<20 {
			http.Error(w, "incomplete", http.StatusBadRequest)
		}
	}))
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		var read atomic.Int64
		answer := make(chan int, 1)
		go func() {
			req := newRequest(t, "POST", url+"/", io.TeeReader(strings.NewReader(strings.Repeat("x", 1<<20)), counter{&read}))
			req.ContentLength = 1 << 20
			if tr, ok := c.Transport.(*http.Transport); ok {
				tr.ExpectContinueTimeout = time.Minute // the body is sent when somebody reads it
				req.Header.Set("Expect", "100-continue")
			}
			res, _ := do(t, c, req)
			answer <- res.StatusCode
		}()
		eventually(t, "waiting request", func() bool { return inQueue(r) == 1 })
		if _, ok := c.Transport.(*http.Transport); ok && read.Load() > 0 {
			t.Errorf("%d bytes of the body were sent while the request waited; want none", read.Load())
		}
		u.start(t)
		if got := <-answer; got != 200 {
			t.Errorf("POST = %d; want 200", got)
		}
		u.server.Close()
	})
	for _, line := range r.accessLog(t, len(protocols)) {
		if line["action"] != "hold" || line["status"] != 200.0 {
			t.Errorf("access log = %v %v; want hold 200", line["action"], line["status"])
		}
	}
}

// A WebSocket waits like any request.
func TestHoldWebSocket(t *testing.T) {
	r, u := heldRig(t, 10*time.Second, http.HandlerFunc(echo))
	eachWebSocket(t, func(t *testing.T, protocol string) {
		started := make(chan struct{})
		go func() {
			defer close(started)
			eventually(t, "waiting request", func() bool { return inQueue(r) == 1 })
			u.start(t)
		}()
		c := openWebSocket(t, r.edge, protocol, "/")
		<-started
		c.Write(wsFrame(2, []byte("hello")))
		if op, got := readFrame(t, c); op != 2 || string(got) != "hello" {
			t.Errorf("echo = opcode %d %q; want hello", op, got)
		}
		c.Close()
		u.server.Close()
		eventually(t, "nothing in flight", func() bool { return r.route.Stats.InFlight.Load() == 0 })
	})
}

// inQueue is how many requests wait for r's upstream to take connections.
func inQueue(r *rig) int { return int(r.route.Stats.queue.length.Load()) }

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

func TestHoldGivesUp(t *testing.T) {
	t.Run("when the time is over", func(t *testing.T) {
		r, _ := heldRig(t, 150*time.Millisecond, nil)
		began := time.Now()
		res, _ := get(t, r.client(t, "h2"), "https://"+host+"/")
		if took := time.Since(began); res.StatusCode != 502 || took < 150*time.Millisecond {
			t.Errorf("GET = %d after %v; want 502 after 150 ms", res.StatusCode, took)
		}
	})
	t.Run("when the client leaves", func(t *testing.T) {
		r, _ := heldRig(t, time.Minute, nil)
		eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
			ctx, leave := context.WithCancel(t.Context())
			left := make(chan struct{})
			go func() {
				defer close(left)
				c.Do(newRequest(t, "GET", url+"/", nil).WithContext(ctx))
			}()
			eventually(t, "waiting request", func() bool { return inQueue(r) == 1 })
			leave()
			<-left
			eventually(t, "empty queue", func() bool { return inQueue(r) == 0 })
		})
	})
	t.Run("with the offline answer when the host went offline", func(t *testing.T) {
		r, _ := heldRig(t, time.Minute, nil)
		answer := make(chan *http.Response, 1)
		go func() {
			res, _ := get(t, r.client(t, "h2"), "https://"+host+"/x")
			answer <- res
		}()
		eventually(t, "waiting request", func() bool { return inQueue(r) == 1 })
		r.reroute(t, func(rt *Route) { rt.Online, rt.Draining = false, true })
		if n := inQueue(r); n != 1 {
			t.Errorf("%d requests wait when the drain begins; want 1", n)
		}
		r.reroute(t, func(rt *Route) { rt.Draining = false })
		if res := <-answer; res.StatusCode != 302 || res.Header.Get("Location") != "https://status.example/x" {
			t.Errorf("GET = %d %v; want 302 to the status page", res.StatusCode, res.Header)
		}
	})
}

// Requests whose connections were cut wait one behind the other to be sent
// again; also who did not have its turn gets the offline answer.
func TestHoldIsOverForWhatWasSentOnce(t *testing.T) {
	arrived, hangUp := make(chan struct{}), make(chan struct{})
	r, u := heldRig(t, time.Minute, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-hangUp
		panic(http.ErrAbortHandler)
	}))
	u.start(t)
	c := r.client(t, "h2")
	answers := make(chan int, 3)
	for range cap(answers) {
		go func() {
			res, err := c.Get("https://" + host + "/")
			if err != nil {
				answers <- 0
				return
			}
			res.Body.Close()
			answers <- res.StatusCode
		}()
		<-arrived
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	u.server.Shutdown(over) // no new connections; those in use stay
	close(hangUp)
	eventually(t, "waiting requests", func() bool { return inQueue(r) == cap(answers) })
	r.reroute(t, func(rt *Route) { rt.Online = false })
	for range cap(answers) {
		if got := <-answers; got != 302 {
			t.Errorf("GET = %d; want 302 to the status page", got)
		}
	}
}

// dialling is a RoundTripper that says when it looks for a connection, and
// finds none once it may.
type dialling struct{ began, refuse chan struct{} }

func (d *dialling) RoundTrip(r *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.Context()).GetConn("")
	select {
	case d.began <- struct{}{}:
		<-d.refuse
	case <-d.refuse:
	}
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

// Whoever was not in the queue yet when its host went away does not join it.
func TestHoldIsOverWithTheHost(t *testing.T) {
	for _, tt := range []struct {
		name string
		away func(t *testing.T, r *rig)
		want int
	}{
		{"offline", func(t *testing.T, r *rig) { r.reroute(t, func(rt *Route) { rt.Online = false }) }, 302},
		{"removed", func(t *testing.T, r *rig) {
			table, _ := NewTable(TableOptions{})
			r.handler.Swap(table)
		}, 502},
	} {
		for _, waiting := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, waiting %v", tt.name, waiting), func(t *testing.T) {
				upstream := &dialling{make(chan struct{}), make(chan struct{})}
				r := newRig(t, nil, rigOptions{
					upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"},
					rt:       func(UpstreamOptions) http.RoundTripper { return upstream },
					route: func(rt *Route) {
						rt.Hold = time.Minute
						rt.StatusPage, _ = ParseStatusPage("https://status.example{uri}")
					},
				})
				answer := make(chan int, 1)
				c := r.client(t, "h2")
				c.Timeout = 5 * time.Second // of the minute that a hold lasts
				go func() {
					res, err := c.Get("https://" + host + "/")
					if err != nil {
						answer <- 0
						return
					}
					res.Body.Close()
					answer <- res.StatusCode
				}()
				<-upstream.began
				if waiting {
					upstream.refuse <- struct{}{}
					<-upstream.began
				}
				tt.away(t, r)
				close(upstream.refuse)
				if got := <-answer; got != tt.want {
					t.Errorf("GET = %d; want %d at once", got, tt.want)
				}
				if n := inQueue(r); n != 0 {
					t.Errorf("%d requests still wait", n)
				}
			})
		}
	}
}

// refusing is a RoundTripper that finds nobody, and counts how often.
type refusing struct{ tries atomic.Int64 }

func (f *refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	f.tries.Add(1)
	httptrace.ContextClientTrace(r.Context()).GetConn("")
	return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
}

// However many wait, one of them tries.
func TestHoldTriesWithOne(t *testing.T) {
	upstream := new(refusing)
	const hold, waiting = 2 * time.Second, 50 // which all come before the first gives up
	heard := 0
	r := newRig(t, nil, rigOptions{
		upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"},
		rt:       func(UpstreamOptions) http.RoundTripper { return upstream },
		route:    func(rt *Route) { rt.Hold = hold },
	})
	var mu sync.Mutex
	r.handler.observe = func(string, *Upstream, error) { mu.Lock(); heard++; mu.Unlock() }
	c := r.client(t, "h2")
	began := time.Now()
	var asking sync.WaitGroup
	for i := range waiting {
		asking.Go(func() { get(t, c, "https://"+host+"/") })
		if i == 0 {
			eventually(t, "waiting request", func() bool { return inQueue(r) == 1 })
		}
	}
	eventually(t, "all of them waiting", func() bool { return inQueue(r) == waiting })
	asking.Wait()
	most := 2*int64(time.Since(began)/holdRetry) + waiting // each of the last may have a turn before it gives up
	if n := upstream.tries.Load(); n > most {
		t.Errorf("%d tries; want at most %d", n, most)
	}
	if mu.Lock(); heard > waiting {
		t.Errorf("the observer heard %d times; want at most once a request", heard)
	}
	mu.Unlock()
}

// orderly is a RoundTripper that takes no connection until it is up, and notes
// the order in which it is asked then.
type orderly struct {
	up    atomic.Bool
	mu    sync.Mutex // guards asked
	asked []string
}

func (o *orderly) RoundTrip(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	trace.GetConn("")
	if !o.up.Load() {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	o.mu.Lock()
	o.asked = append(o.asked, r.URL.RequestURI())
	o.mu.Unlock()
	trace.GotConn(httptrace.GotConnInfo{})
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
}

// Those who wait go on in the order in which they came, and without a pause
// between them.
func TestHoldKeepsTheOrder(t *testing.T) {
	upstream := new(orderly)
	r := newRig(t, nil, rigOptions{
		upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"},
		rt:       func(UpstreamOptions) http.RoundTripper { return upstream },
		route:    func(rt *Route) { rt.Hold = time.Minute },
	})
	c := r.client(t, "h2")
	var want []string
	var asking sync.WaitGroup
	for i := range 30 {
		path := fmt.Sprintf("/%d", i)
		want = append(want, path)
		asking.Go(func() { get(t, c, "https://"+host+path) })
		eventually(t, "one more waiting", func() bool { return inQueue(r) == i+1 })
	}
	began := time.Now()
	upstream.up.Store(true)
	asking.Wait()
	if diff := cmp.Diff(want, upstream.asked); diff != "" {
		t.Errorf("order at the upstream (-want +got):\n%s", diff)
	}
	if took := time.Since(began); took > 25*holdRetry {
		t.Errorf("30 requests went on within %v; want them not to wait for one another", took)
	}
}

func TestHoldQueue(t *testing.T) {
	var q holdQueue
	place := func(i int) *held { return &held{arrived: time.Unix(int64(i), 0)} }
	hasTurn := func(h *held) bool {
		select {
		case <-h.turn:
			return true
		default:
			return false
		}
	}
	a, b, c := place(1), place(2), place(3)
	for _, h := range []*held{a, a, b, b, c, c} {
		if !q.join(h) {
			t.Fatal("join refuses a queue of three")
		}
	}
	if !hasTurn(a) || hasTurn(b) || hasTurn(c) || q.length.Load() != 3 {
		t.Error("want the first to have its turn, no other, and three waiting")
	}
	q.leave(b) // its client left
	if hasTurn(c) {
		t.Error("the third has its turn because the second left")
	}
	q.leave(a)
	q.leave(a)
	if !hasTurn(c) {
		t.Error("the third has no turn after the others left")
	}
	if q.join(a); !hasTurn(a) || q.waiting[0] != a {
		t.Error("who comes back is not before those that arrived later")
	}
	for i := 4; q.join(place(i)); i++ {
	}
	if n := q.length.Load(); n != holdAtMost {
		t.Errorf("the queue takes %d; want %d", n, holdAtMost)
	}
}

// The end of the host ends the waiting of all but those who may stay, and only they
// may still join.
func TestHoldQueueCloses(t *testing.T) {
	var q holdQueue
	leaves, stays := &held{arrived: time.Unix(1, 0)}, &held{arrived: time.Unix(2, 0), stays: true}
	q.join(leaves)
	q.join(stays)
	q.admit(false)
	if !q.sentAway(leaves) || q.sentAway(stays) {
		t.Errorf("sent away: %v, and %v of who may stay; want true, and false", q.sentAway(leaves), q.sentAway(stays))
	}
	if q.join(new(held)) || !q.join(&held{stays: true}) {
		t.Error("want that only who may stay joins now")
	}
	if q.admit(true); !q.join(new(held)) {
		t.Error("nobody can join although the host is back")
	}
}

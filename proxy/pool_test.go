package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadAddress is one on loopback that refuses connections, until the test
// listens there. It is bound for as long as the test lasts: left free, it might
// become that of another test's server.
func deadAddress(t testing.TB) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	// Like package net, which so may listen there all the same.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", at.(*syscall.SockaddrInet4).Port)
}

// poolRig serves host from a pool.
func poolRig(t *testing.T, p *Pool, change func(rt *Route)) *rig {
	return newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: "127.0.0.1:1"}, route: func(rt *Route) {
		rt.Pool = p
		if change != nil {
			change(rt)
		}
	}})
}

// answers asks n times and counts the answers by their body.
func answers(t *testing.T, c *http.Client, n int) map[string]int {
	t.Helper()
	count := map[string]int{}
	for range n {
		res, body := get(t, c, "https://"+host+"/")
		if res.StatusCode != 200 {
			body = res.Status
		}
		count[body]++
	}
	return count
}

func TestPoolSharesByRequestsInFlight(t *testing.T) {
	working, release := make(chan struct{}), make(chan struct{})
	slow := upstreamAt(t, startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			working <- struct{}{}
			<-release
		}
		io.WriteString(w, "a")
	})))
	pool := NewPool([]*Upstream{slow, echoUpstream(t, "b")}, nil)
	r := poolRig(t, pool, nil)
	c := r.client(t, "h2")
	// A request may still count when the next one arrives, so not 5 exactly.
	if got := answers(t, c, 10); got["a"] < 3 || got["b"] < 3 {
		t.Errorf("idle members got %v; want about 5 each", got)
	}
	pool.Members()[1].SetHealthy(false) // so that the slow one is chosen
	var busy sync.WaitGroup
	busy.Go(func() { get(t, c, "https://"+host+"/slow") })
	<-working
	pool.Members()[1].SetHealthy(true)
	if n := slow.InFlight(); n != 1 {
		t.Errorf("in flight at the busy member = %d; want 1", n)
	}
	if got := answers(t, c, 10); got["b"] != 10 {
		t.Errorf("beside a busy member %v; want 10 for the idle one", got)
	}
	close(release)
	busy.Wait()
	eventually(t, "no request in flight", func() bool { return slow.InFlight() == 0 })
}

func TestPoolLeavesTheUnhealthyOut(t *testing.T) {
	pool := NewPool([]*Upstream{echoUpstream(t, "a"), echoUpstream(t, "b")}, []*Upstream{echoUpstream(t, "standby")})
	a, b, standby := pool.Members()[0], pool.Members()[1], pool.Members()[2]
	r := poolRig(t, pool, nil)
	c := r.client(t, "h2")
	for _, tt := range []struct {
		name          string
		a, b, standby bool
		want          []string
	}{
		{"all healthy", true, true, true, []string{"a", "b"}},
		{"one out", false, true, true, []string{"b"}},
		{"back", true, true, true, []string{"a", "b"}},
		{"all but the standby out", false, false, true, []string{"standby"}},
		{"all out", false, false, false, []string{"a", "b"}},
		{"standby out", true, true, false, []string{"a", "b"}},
	} {
		a.SetHealthy(tt.a)
		b.SetHealthy(tt.b)
		standby.SetHealthy(tt.standby)
		got := answers(t, c, 8)
		sum := 0
		for _, name := range tt.want {
			sum += got[name]
			if got[name] == 0 {
				t.Errorf("%s: %v; want each of %v", tt.name, got, tt.want)
			}
		}
		if sum != 8 {
			t.Errorf("%s: %v; want 8 shared by %v", tt.name, got, tt.want)
		}
	}
}

// A member that took no connection is left alone for a while, or until somebody
// says that it is healthy.
func TestPoolLetsTheDeadRest(t *testing.T) {
	pool := NewPool([]*Upstream{upstreamAt(t, "127.0.0.1:1"), upstreamAt(t, "127.0.0.1:2")}, nil)
	a, b := pool.Members()[0], pool.Members()[1]
	a.refused()
	for range 4 {
		if got := pool.pick(nil); got != b {
			t.Fatalf("pick = %v; want the member that does not rest", got)
		}
	}
	if got := pool.pick([]attempt{{b, nil}}); got != a {
		t.Errorf("pick after the other failed = %v; want the one that rests", got)
	}
	a.SetHealthy(true)
	seen := map[*Member]bool{pool.pick(nil): true, pool.pick(nil): true}
	if !seen[a] {
		t.Error("a member that is healthy again is still left out")
	}
	a.resting.Store(time.Now().UnixNano())
	if !a.in() {
		t.Error("a member rests beyond its time")
	}
}

// A member that takes no connection costs nobody an answer, whatever was asked.
func TestPoolTriesTheNextMember(t *testing.T) {
	alive := upstreamAt(t, startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.Method+" "+string(body))
	})))
	dead := func() *Upstream { return upstreamAt(t, deadAddress(t)) }
	r := poolRig(t, NewPool([]*Upstream{dead(), dead()}, []*Upstream{alive}), nil)
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		for _, method := range []string{"GET", "POST", "PATCH"} {
			body := ""
			if method != "GET" {
				body = strings.Repeat("form", 10_000)
			}
			var reader io.Reader = strings.NewReader(body)
			if method == "PATCH" {
				reader = io.MultiReader(reader) // of unknown length
			}
			res, got := do(t, c, newRequest(t, method, url+"/", reader))
			if res.StatusCode != 200 || got != method+" "+body {
				t.Errorf("%s = %d %.20q; want 200 with what was sent", method, res.StatusCode, got)
			}
		}
	})
	line := r.accessLog(t, 1)[0]
	if line["upstream"] != alive.String() {
		t.Errorf("upstream in the access log = %v; want the one that answered, %v", line["upstream"], alive)
	}
}

// A member whose TLS handshake fails was sent nothing either.
func TestPoolTriesTheNextMemberAfterAHandshake(t *testing.T) {
	member := func(text, roots string) *Upstream {
		u, err := NewUpstream(UpstreamOptions{Scheme: "https", RootsPEM: roots, Address: startTLSUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			io.WriteString(w, text+" "+string(body))
		}))}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(u.Retire)
		return u
	}
	pool := NewPool([]*Upstream{member("untrusted", ""), member("trusted", testRootsPEM())}, nil)
	c := poolRig(t, pool, nil).client(t, "h2")
	for range 4 {
		for _, m := range pool.Members() {
			m.SetHealthy(true) // do not let it rest
		}
		res, body := do(t, c, newRequest(t, "POST", "https://"+host+"/", strings.NewReader("order")))
		if res.StatusCode != 200 || body != "trusted order" {
			t.Errorf("POST = %d %q; want 200 by the member that is trusted", res.StatusCode, body)
		}
	}
}

// What was sent to a member is not sent to another one.
func TestPoolDoesNotRepeatWhatWasSent(t *testing.T) {
	var mu sync.Mutex
	seen := 0
	breaks := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen++
		mu.Unlock()
		panic(http.ErrAbortHandler)
	})
	r := poolRig(t, NewPool([]*Upstream{upstreamAt(t, startUpstream(t, breaks)), upstreamAt(t, startUpstream(t, breaks))}, nil), nil)
	res, _ := do(t, r.client(t, "h1"), newRequest(t, "POST", "https://"+host+"/", strings.NewReader("order")))
	if mu.Lock(); res.StatusCode != 502 || seen != 1 {
		t.Errorf("POST = %d, seen %d times; want 502, once", res.StatusCode, seen)
	}
	mu.Unlock()
}

// The observer hears of failures, of the first success after them, and of
// nothing else.
func TestObserver(t *testing.T) {
	type told struct {
		host string
		u    *Upstream
		err  error
	}
	var heard []told
	status := 200
	alive := upstreamAt(t, startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(status)
	})))
	dead := upstreamAt(t, deadAddress(t))
	pool := NewPool([]*Upstream{dead}, []*Upstream{alive})
	r := poolRig(t, pool, nil)
	r.reroute(t, func(rt *Route) { rt.PassiveStatus = true })
	h := NewHandler(HandlerOptions{Table: r.handler.table.Load(), Observer: func(host string, u *Upstream, err error) {
		heard = append(heard, told{host, u, err})
	}})
	c := serve(t, usual(t), h).client(t, "h1") // one request after the other
	ask := func(what string, answer int, ok func() bool) {
		t.Helper()
		heard, status = nil, answer
		get(t, c, "https://"+host+"/")
		if !ok() {
			t.Errorf("%s: the observer heard %v", what, heard)
		}
	}
	ask("refused by the first", 200, func() bool {
		return len(heard) == 1 && heard[0].host == host && heard[0].u == dead && errors.Is(heard[0].err, syscall.ECONNREFUSED)
	})
	pool.Members()[0].SetHealthy(false)
	ask("success", 200, func() bool { return len(heard) == 0 })
	ask("503", 503, func() bool {
		var failed *StatusError
		return len(heard) == 1 && heard[0].u == alive && errors.As(heard[0].err, &failed) && failed.Status == 503
	})
	ask("success after a failure", 404, func() bool { return len(heard) == 1 && heard[0].u == alive && heard[0].err == nil })
	ask("further success", 500, func() bool { return len(heard) == 0 })
}

// What cannot be sent is the client's mistake: no member rests for it, no probe
// is asked for, and it is no upstream's last error.
func TestUnsendableIsTheClients(t *testing.T) {
	changes := map[string]func(*http.Request){
		"method":        func(r *http.Request) { r.Method = "G T" },
		"name":          func(r *http.Request) { r.Header["A b"] = []string{"c"} },
		"value":         func(r *http.Request) { r.Header["A"] = []string{"b\r\nc: d"} },
		"name in UTF-8": func(r *http.Request) { r.Host = "bücher.example.test" },
	}
	for name, o := range map[string]UpstreamOptions{
		"engine":   {Scheme: "http", Engine: true},
		"net/http": {Scheme: "http"},
		"https":    {Scheme: "https"},
		"h2c":      {Scheme: "h2c"},
	} {
		t.Run(name, func(t *testing.T) {
			var members []*Upstream
			for range 2 {
				o.Address = deadAddress(t)
				u, err := NewUpstream(o, nil)
				if err != nil {
					t.Fatal(err)
				}
				members = append(members, u)
			}
			pool, stats := NewPool(members, nil), new(Stats)
			for name, change := range changes {
				if name == "name in UTF-8" && !o.Engine {
					continue // http.Transport sends what DNS has for it
				}
				for _, hold := range []time.Duration{0, time.Minute} {
					t.Run(fmt.Sprintf("%s, hold %v", name, hold), func(t *testing.T) {
						route := &Route{Host: host, Names: []string{host, "xn--bcher-kva.example.test"}, Online: true, Hold: hold, Pool: pool, Stats: stats}
						table, err := NewTable(TableOptions{Routes: []*Route{route}})
						if err != nil {
							t.Fatal(err)
						}
						h := NewHandler(HandlerOptions{Table: table, Observer: func(_ string, u *Upstream, err error) {
							t.Errorf("the observer heard of %s: %v", u, err)
						}})
						r := usualRequest()
						change(r)
						w := httptest.NewRecorder()
						h.ServeHTTP(w, r)
						if w.Code != http.StatusBadRequest {
							t.Errorf("answer %d; want 400", w.Code)
						}
					})
				}
			}
			for _, m := range pool.Members() {
				if !m.in() {
					t.Error("a member rests")
				}
			}
			if message, _ := stats.LastError(); message != "" {
				t.Errorf("last error %q; want none", message)
			}
		})
	}
}

// Whatever is spoken to the upstreams, it is known when one takes no connection.
func TestDeadUpstreamsOfEachScheme(t *testing.T) {
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	})
	for _, scheme := range []string{"http", "https", "h2c", "unix"} {
		t.Run(scheme, func(t *testing.T) {
			dead := UpstreamOptions{Scheme: scheme, Address: deadAddress(t), RootsPEM: testRootsPEM()}
			if scheme == "unix" {
				dead.Address = filepath.Join(t.TempDir(), "nobody.sock")
			}
			u, err := NewUpstream(dead, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := poolRig(t, NewPool([]*Upstream{u}, []*Upstream{upstreamAt(t, startUpstream(t, hello))}), nil)
			res, body := do(t, r.client(t, "h2"), newRequest(t, "POST", "https://"+host+"/", strings.NewReader("form")))
			if res.StatusCode != 200 || body != "form" {
				t.Errorf("POST = %d %q; want the standby's answer", res.StatusCode, body)
			}
		})
	}
}

// starved is a transport that has no descriptor left for a connection.
type starved struct{}

func (starved) RoundTrip(r *http.Request) (*http.Response, error) {
	httptrace.ContextClientTrace(r.Context()).GetConn(r.URL.Host)
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
}

// A resolver without a descriptor tells so in words only.
func TestShortageOfTheResolver(t *testing.T) {
	lookup := func(text string) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: text, Name: "app.lan", Server: "[::1]:53", IsTemporary: true}}
	}
	for text, want := range map[string]bool{
		"dial udp [::1]:53: socket: too many open files":           true,
		"dial udp [::1]:53: socket: too many open files in system": true,
		"read udp [::1]:53: connection refused":                    false,
		"no such host":                                             false,
	} {
		if got := Shortage(lookup(text)); got != want {
			t.Errorf("Shortage(%q) = %v; want %v", text, got, want)
		}
	}
}

// What we lack for a connection says nothing about the upstream: it must not
// rest, and its host must not go offline.
func TestOurShortageIsNotTheUpstreams(t *testing.T) {
	upstream, err := NewUpstream(UpstreamOptions{Scheme: "http", Address: "10.1.1.4"}, starved{})
	if err != nil {
		t.Fatal(err)
	}
	pool := NewPool([]*Upstream{upstream, upstream}, nil)
	stats := new(Stats)
	table, err := NewTable(TableOptions{Routes: []*Route{{Host: host, Names: []string{host}, Online: true, Pool: pool, Stats: stats}}})
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandler(HandlerOptions{Table: table, Observer: func(_ string, u *Upstream, err error) {
		t.Errorf("the observer heard of %s: %v", u, err)
	}})
	w := httptest.NewRecorder()
	h.ServeHTTP(w, usualRequest())
	if w.Code != http.StatusBadGateway {
		t.Errorf("answer %d; want 502", w.Code)
	}
	for _, m := range pool.Members() {
		if !m.in() {
			t.Error("a member rests")
		}
	}
	if message, _ := stats.LastError(); !strings.Contains(message, "too many open files") {
		t.Errorf("last error %q; want what is lacking", message)
	}
}

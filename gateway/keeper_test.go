package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"detour/config"
	"detour/control"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// host is the status of one host, by its key.
func (r *rig) host(t testing.TB, key string) control.Host {
	t.Helper()
	for _, h := range r.Status().Hosts {
		if h.Key == key {
			return h
		}
	}
	t.Fatalf("no host %q in the status", key)
	return control.Host{}
}

// becomes waits until a host is in a state for a cause.
func (r *rig) becomes(t testing.TB, key, state, cause string) control.Host {
	t.Helper()
	var h control.Host
	eventually(t, fmt.Sprintf("%s is %s by %q", key, state, cause), func() bool {
		h = r.host(t, key)
		return h.State == state && h.Cause == cause
	})
	return h
}

// window is a [[maintenance]] entry.
func window(host string, from, until time.Time, more string) string {
	return fmt.Sprintf("[[maintenance]]\nhosts = [%q]\nfrom = %s\nuntil = %s\n%s\n", host, from.Format(time.RFC3339Nano), until.Format(time.RFC3339Nano), more)
}

const toStatusPage = "https://status.example.net/"

// A window begins and ends at its time, for every protocol, without a reload.
func TestWindow(t *testing.T) {
	t.Parallel()
	shop := says(t, "shop")
	from := time.Now().Add(5 * time.Second) // for a slow machine to ask before it
	until := from.Add(4 * time.Second)
	r := start(t, window("shop", from, until, `reason = "upgrade"`)+fmt.Sprintf("[hosts]\nshop = { upstream = %q }\nblog = { upstream = %q }\n", shop, shop))

	if next := r.host(t, "shop").Next; next == nil || !next.From.Equal(from) || !next.Until.Equal(until) || next.Reason != "upgrade" {
		t.Errorf("the next window is %+v; want the one from %s", next, from)
	}
	clients := map[string]*http.Client{}
	for _, protocol := range protocols {
		clients[protocol] = r.client(t, protocol)
		if got, err := get(t.Context(), clients[protocol], "https://shop.example.test/"); err != nil || got.Body != "shop" {
			t.Errorf("%s before the window: %+v, %v; want the upstream", protocol, got, err)
		}
	}
	h := r.becomes(t, "shop", "offline", "window")
	if now := time.Now(); now.Before(from) {
		t.Errorf("offline %s before the window", from.Sub(now))
	}
	if !h.Until.Equal(until) || h.Reason != "upgrade" || h.Next != nil {
		t.Errorf("in the window the status is %+v; want its end, its reason and no other window", h)
	}
	for _, protocol := range protocols {
		if got, err := get(t.Context(), clients[protocol], "https://shop.example.test/"); err != nil || got.Location != toStatusPage {
			t.Errorf("%s in the window: %+v, %v; want the status page", protocol, got, err)
		}
		if got, err := get(t.Context(), clients[protocol], "https://blog.example.test/"); err != nil || got.Body != "shop" {
			t.Errorf("%s, another host in the window: %+v, %v; want its upstream", protocol, got, err)
		}
	}
	r.becomes(t, "shop", "online", "")
	if now := time.Now(); now.Before(until) {
		t.Errorf("online %s before the end of the window", until.Sub(now))
	}
	for _, protocol := range protocols {
		if got, err := get(t.Context(), clients[protocol], "https://shop.example.test/"); err != nil || got.Body != "shop" {
			t.Errorf("%s after the window: %+v, %v; want the upstream", protocol, got, err)
		}
	}
	if n := r.Status().Generation; n != 1 {
		t.Errorf("generation = %d; want 1: no configuration changed", n)
	}
}

// A gateway that was off when a window began or ended finds its place.
func TestStartInAWindow(t *testing.T) {
	t.Parallel()
	now := time.Now()
	shop := says(t, "shop")
	r := start(t, window("running", now.Add(-time.Hour), now.Add(time.Hour), "")+
		window("past", now.Add(-2*time.Hour), now.Add(-time.Hour), "")+
		window("dead", now.Add(-2*time.Hour), now.Add(-time.Minute), "")+
		window("draining", now.Add(time.Hour), now.Add(2*time.Hour), `drain = "90m"`)+
		fmt.Sprintf("[hosts]\nrunning = { upstream = %[1]q }\ndead = { upstream = \"127.0.0.1:1\" }\npast = { upstream = %[1]q }\ndraining = { upstream = %[1]q, session = { cookies = [\"cart\"] } }\n", shop))
	got := map[string]string{}
	for _, h := range r.Status().Hosts {
		got[h.Key] = h.State + " " + h.Cause
	}
	want := map[string]string{"running": "offline window", "past": "online ", "dead": "offline overran", "draining": "draining window"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("states at the start (-want +got):\n%s", diff)
	}
	// Ended for one host, as `detour online` does.
	if _, err := config.BringOnlineFile(r.config, []string{"running"}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	if h := r.host(t, "running"); h.State != "online" {
		t.Errorf("after its window was ended: %+v; want online at once", h)
	}
}

// stoppable is an upstream that can refuse connections and come back.
type stoppable struct {
	addr   string
	server *httptest.Server
	h      http.HandlerFunc
}

func newStoppable(t testing.TB, h http.HandlerFunc) *stoppable {
	s := &stoppable{addr: ownAddress(t), h: h}
	s.start(t)
	t.Cleanup(func() { s.server.Close() })
	return s
}

func (s *stoppable) start(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	s.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: s.h}}
	s.server.Start()
}

func (s *stoppable) stop() { s.server.CloseClientConnections(); s.server.Close() }

// ownAddress is one on loopback that is bound for as long as the test lasts, also
// while nobody listens there: left free, it might become another test's.
func ownAddress(t testing.TB) string {
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

// When a window is over and the upstream does not answer, the host stays
// offline and says so, until it answers or the operator wants it online.
func TestOverran(t *testing.T) {
	t.Parallel()
	hello := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }
	plain, probed, wanted := newStoppable(t, hello), newStoppable(t, hello), newStoppable(t, hello)
	for _, s := range []*stoppable{plain, probed, wanted} {
		s.stop()
	}
	now := time.Now()
	until := now.Add(time.Second)
	windows := ""
	for _, host := range []string{"plain", "probed", "wanted"} {
		windows += window(host, now.Add(-time.Hour), until, "")
	}
	r := start(t, windows+fmt.Sprintf(`
[hosts]
plain  = { upstream = %q }
probed = { upstream = %q, health = { interval = "1s", timeout = "1s", passes = 1 } }
wanted = { upstream = %q }
`, plain.addr, probed.addr, wanted.addr))
	client := r.client(t, "h2")
	for _, host := range []string{"plain", "probed", "wanted"} {
		r.becomes(t, host, "offline", "overran")
		if got, err := get(t.Context(), client, "https://"+host+".example.test/"); err != nil || got.Location != toStatusPage {
			t.Errorf("%s: %+v, %v; want the status page", host, got, err)
		}
	}
	plain.start(t)
	probed.start(t)
	for _, host := range []string{"plain", "probed"} {
		r.becomes(t, host, "online", "")
		if got, err := get(t.Context(), client, "https://"+host+".example.test/"); err != nil || got.Body != "hello" {
			t.Errorf("%s after its upstream came back: %+v, %v; want its answer", host, got, err)
		}
	}
	eventually(t, "the log says that it overran", func() bool {
		return strings.Contains(r.process.String(), "maintenance overran")
	})
	r.Reload(control.ReloadOptions{Online: []string{"wanted.example.test"}})
	if h := r.host(t, "wanted"); h.State != "online" {
		t.Errorf("after the operator wanted it online: %+v", h)
	}
}

// A sick upstream takes its host offline, and when it is well the host comes
// back by itself. TestFlappingHost holds how often.
func TestAutoOffline(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" && sick.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	r := start(t, fmt.Sprintf(`
[hosts]
auto   = { upstream = %[1]q, auto_offline = true, health = { path = "/healthz", interval = "1s", timeout = "1s", fails = 1, passes = 1 } }
manual = { upstream = %[1]q, health = { path = "/healthz", interval = "1s", timeout = "1s", fails = 2, passes = 1 } }
`, app))
	eventually(t, "the first probe passed", func() bool { return r.host(t, "auto").Health == "healthy" })

	sick.Store(true)
	r.becomes(t, "auto", "offline", "health")
	eventually(t, "the other is found to be sick", func() bool { return r.host(t, "manual").Health == "unhealthy" })
	if h := r.host(t, "manual"); h.State != "online" {
		t.Errorf("without auto_offline: %+v; want online", h)
	}
	r.reload(t)
	if h := r.host(t, "auto"); h.State != "offline" || h.Health != "unhealthy" {
		t.Errorf("after a reload: %+v; want what was known before", h)
	}
	sick.Store(false)
	r.becomes(t, "auto", "online", "")
}

// Refused connections are as good as probes, and visitors of a host whose
// upstreams are not all dead do not see them.
func TestPassiveSignals(t *testing.T) {
	t.Parallel()
	alive := says(t, "alive")
	dead := newStoppable(t, func(http.ResponseWriter, *http.Request) {})
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = [%q, %q], health = { interval = \"1h\", timeout = \"1m\", fails = 1 } }\n", dead.addr, alive))
	eventually(t, "both were probed", func() bool {
		h := r.host(t, "shop")
		return h.Upstreams[0].Health == "healthy" && h.Upstreams[1].Health == "healthy"
	})
	dead.stop()
	client := r.client(t, "h2")
	for i := range 20 {
		if got, err := get(t.Context(), client, "https://shop.example.test/"); err != nil || got.Status != 200 {
			t.Fatalf("request %d: %+v, %v; want the answer of the one that lives", i, got, err)
		}
	}
	h := r.host(t, "shop")
	if h.Upstreams[0].Health != "unhealthy" || h.Upstreams[1].Health != "healthy" || h.Health != "healthy" {
		t.Errorf("the status is %+v; want the first upstream unhealthy", h)
	}
}

// In a drain customers with a session finish, on every protocol, and nobody
// else comes in; at its end what is left is closed with a goodbye.
func TestFlagDrain(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "shop") })
	hosts := fmt.Sprintf("[hosts]\nshop = { upstream = %q, session = { cookies = [\"cart\"], paths = [\"/checkout\"] } }\n", upstream(t, mux.ServeHTTP))
	r := start(t, hosts)
	ws := dial(t, r, "shop")
	defer ws.CloseNow()
	eventually(t, "the WebSocket is counted", func() bool { return r.host(t, "shop").Streams == 1 })

	const drain = 5 * time.Second // for a slow machine to ask in it
	r.write(t, strings.Replace(hosts, "{ upstream", "{ online = false, upstream", 1))
	began := time.Now()
	r.Reload(control.ReloadOptions{Drain: map[string]time.Duration{"shop.example.test": drain}})
	h := r.host(t, "shop")
	if h.State != "draining" || h.Cause != "flag" || h.DrainUntil.Before(began.Add(drain)) || h.Streams != 1 {
		t.Fatalf("after the flag went off with a drain: %+v", h)
	}
	for _, protocol := range protocols {
		client := r.client(t, protocol)
		for _, test := range []struct{ path, cookie, want string }{
			{"/", "", ""},
			{"/", "a=b; cart=1", "shop"},
			{"/checkout/pay", "", "shop"},
		} {
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://shop.example.test"+test.path, nil)
			if test.cookie != "" {
				req.Header.Set("Cookie", test.cookie)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(body) != test.want {
				t.Errorf("%s %s with cookie %q: %d %q; want %q", protocol, test.path, test.cookie, resp.StatusCode, body, test.want)
			}
		}
	}
	if n := r.host(t, "shop").Sessions; n != 6 {
		t.Errorf("%d requests of sessions were seen; want 6", n)
	}
	_, _, err := ws.Read(t.Context())
	if code := websocket.CloseStatus(err); code != websocket.StatusGoingAway {
		t.Errorf("the WebSocket ended with %v; want close 1001", err)
	}
	if took := time.Since(began); took < drain {
		t.Errorf("the drain ended after %s; want %s", took, drain)
	}
	r.becomes(t, "shop", "offline", "flag")
	eventually(t, "nothing in flight", func() bool { h := r.host(t, "shop"); return h.InFlight == 0 && h.Streams == 0 })
}

// [offline] all takes everybody but a few offline and gives back exactly what
// was before.
func TestAllAndBack(t *testing.T) {
	t.Parallel()
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %[1]q }\nold = { upstream = %[1]q, online = false }\nstatus = { upstream = %[1]q }\n", says(t, "x")))
	states := func() map[string]string {
		m := map[string]string{}
		for _, h := range r.Status().Hosts {
			m[h.Key] = h.State + " " + h.Cause
		}
		return m
	}
	before := states()
	if err := config.SetAllFile(r.config, true, []string{"status"}); err != nil {
		t.Fatal(err)
	}
	report := r.Reload(control.ReloadOptions{})
	if want := []string{"shop.example.test"}; !cmp.Equal(report.Offline, want) {
		t.Errorf("Report.Offline = %v; want %v", report.Offline, want)
	}
	if diff := cmp.Diff(map[string]string{"shop": "offline all", "old": "offline flag", "status": "online "}, states()); diff != "" {
		t.Errorf("all offline (-want +got):\n%s", diff)
	}
	if err := config.SetAllFile(r.config, false, nil); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	if diff := cmp.Diff(before, states()); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}
}

// Who asks for nothing of this pays for nothing: one keeper that waits.
func TestIdleKeeper(t *testing.T) {
	start(t, "[hosts]\nshop = { upstream = \"127.0.0.1:1\" }\n")
	buf := make([]byte, 1<<20)
	stacks := ""
	eventually(t, "the keeper waits", func() bool {
		stacks = string(buf[:runtime.Stack(buf, true)])
		return strings.Contains(stacks, "(*keeper).run(") && !strings.Contains(stacks, "(*keeper).look(")
	})
	for what, want := range map[string]int{"(*keeper).run(": 1, "(*check).repeat(": 0, "detour/notify.": 0, "detour/state.": 0} {
		if n := strings.Count(stacks, what); n != want {
			t.Errorf("%d goroutines in %s; want %d", n, what, want)
		}
	}
}

// A download that the end of a drain is about to cut goes on when its host
// comes back before.
func TestComingBackSparesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/echo" {
			echo(w, r)
			return
		}
		io.WriteString(w, "first, ")
		http.NewResponseController(w).Flush()
		<-release
		io.WriteString(w, "last")
	})
	hosts := fmt.Sprintf("[hosts]\nshop = { upstream = %q, drain = \"1h\", session = { cookies = [\"cart\"] } }\n", app)
	off := strings.Replace(hosts, "{ upstream", "{ online = false, upstream", 1)
	r := start(t, hosts)
	ws := dial(t, r, "shop")
	defer ws.CloseNow()
	resp, err := r.client(t, "h2").Get("https://shop.example.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r.write(t, off)
	r.reload(t)
	r.becomes(t, "shop", "draining", "flag")
	r.Reload(control.ReloadOptions{Drain: map[string]time.Duration{"shop.example.test": 0}})
	if _, _, err := ws.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Fatalf("the WebSocket ended with %v; want close 1001", err)
	}
	r.write(t, hosts)
	r.reload(t)
	time.AfterFunc(3*time.Second, func() { close(release) }) // grace is two
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "first, last" {
		t.Errorf("the download is %q, %v; want all of it", body, err)
	}
}

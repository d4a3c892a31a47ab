package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
)

// Until its first probe a host is unknown and is tried; then its upstream is
// what the probe says. A reload that leaves it as it is forgets nothing and
// asks nothing anew.
func TestProbes(t *testing.T) {
	t.Parallel()
	type probe struct{ Host, URI, Proto, Agent string }
	release := make(chan struct{})
	got := make(chan probe, 10)
	var probes atomic.Int64
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			io.WriteString(w, "shop")
			return
		}
		probes.Add(1)
		got <- probe{r.Host, r.RequestURI, r.Header.Get("X-Forwarded-Proto"), r.UserAgent()}
		select {
		case <-release:
		case <-r.Context().Done():
		}
		w.Header().Set("Location", "https://elsewhere.test/")
		w.WriteHeader(http.StatusFound)
	})
	hosts := fmt.Sprintf(`[hosts]
shop = { upstream = %q, auto_offline = true, health = { path = "/healthz?deep=1", interval = "1h", timeout = "1m", status = "2xx", fails = 1 } }
`, app)
	r := start(t, hosts)
	if want, is := (probe{"shop.example.test", "/healthz?deep=1", "https", "detour"}), <-got; is != want {
		t.Errorf("the probe was %+v; want %+v", is, want)
	}
	if h := r.host(t, "shop"); h.Health != "unknown" || h.State != "online" {
		t.Errorf("before the first probe's end: %+v; want unknown and online", h)
	}
	client := r.client(t, "h2")
	if got, err := get(t.Context(), client, "https://shop.example.test/"); err != nil || got.Body != "shop" {
		t.Errorf("an unknown host is not tried: %+v, %v", got, err)
	}
	close(release) // a redirect is not 2xx
	r.becomes(t, "shop", "offline", "health")
	r.write(t, hosts+fmt.Sprintf("other = { upstream = %q, health = { path = \"/\" } }\n", says(t, "other")))
	r.reload(t)
	eventually(t, "the keeper has looked after the reload", func() bool { return r.host(t, "other").Health == "healthy" })
	if h := r.host(t, "shop"); h.Health != "unhealthy" || h.State != "offline" {
		t.Errorf("after a reload: %+v; want what was known", h)
	}
	if n := probes.Load(); n != 1 {
		t.Errorf("%d probes; want none because of the reload", n)
	}
	// Other settings begin anew: unknown, so it is tried.
	r.write(t, "[hosts]\nshop = { upstream = \""+app+"\", auto_offline = true, health = { path = \"/\", interval = \"1h\", timeout = \"1s\" } }\n")
	r.reload(t)
	r.becomes(t, "shop", "online", "")
}

// A stranger who finds a path that the upstream hangs up on takes no host
// offline: the next probe, which comes at once, decides.
func TestStrangersDoNotTakeAHostOffline(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	var probes atomic.Int64
	app := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/hang-up", sick.Load():
			panic(http.ErrAbortHandler)
		case r.URL.Path == "/healthz":
			probes.Add(1)
		}
	})
	r := start(t, fmt.Sprintf(`[hosts]
shop = { upstream = %q, auto_offline = true, health = { path = "/healthz", interval = "1h", timeout = "1m" } }
`, app))
	eventually(t, "the first probe passed", func() bool { return r.host(t, "shop").Health == "healthy" })
	client := r.client(t, "h2")
	asked := probes.Load()
	for i := range 10 {
		if got, err := get(t.Context(), client, "https://shop.example.test/hang-up"); err != nil || got.Status != http.StatusBadGateway {
			t.Fatalf("request %d: %+v, %v; want 502", i, got, err)
		}
	}
	eventually(t, "the upstream was asked", func() bool { return probes.Load() > asked })
	if h := r.host(t, "shop"); h.Health != "healthy" || h.State != "online" {
		t.Errorf("after ten requests that were hung up on: %+v; want healthy and online", h)
	}
	// When it is really sick nobody waits for the next interval.
	sick.Store(true)
	eventually(t, "the host is offline", func() bool {
		if _, err := get(t.Context(), client, "https://shop.example.test/"); err != nil {
			t.Fatal(err)
		}
		return r.host(t, "shop").State == "offline"
	})
}

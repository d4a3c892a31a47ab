package gateway_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour/control"
	"detour/gateway"
)

// The operator's link opens an offline host once, by a cookie that survives a
// restart of the gateway, and nothing of it is in the access log.
func TestBypassLink(t *testing.T) {
	t.Parallel()
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %[1]q, online = false }\nblog = { upstream = %[1]q }\n", says(t, "shop")))
	for _, test := range []struct {
		host string
		d    time.Duration
		want string
	}{
		{"nobody", time.Hour, "no host"},
		{"blog", time.Hour, "online"},
		{"shop", 0, "not possible"},
		{"shop", 365 * 24 * time.Hour, "not possible"},
	} {
		if link, err := r.Bypass(test.host, test.d); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Bypass(%q, %s) = %q, %v; want an error with %q", test.host, test.d, link, err, test.want)
		}
	}
	link, err := r.Bypass("shop", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	link = strings.Replace(link, "example.test:443", "example.test", 1)
	client := r.client(t, "h2")
	resp, err := client.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	cookies := resp.Cookies()
	if resp.StatusCode/100 != 3 || len(cookies) != 1 || strings.Contains(resp.Header.Get("Location"), "bypass") {
		t.Fatalf("the link was answered with %d to %q and %d cookies; want the clean address and one", resp.StatusCode, resp.Header.Get("Location"), len(cookies))
	}
	through := func(client *http.Client) string {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://shop.example.test/", nil)
		req.AddCookie(cookies[0])
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.Header.Get("X-Detour")
	}
	if got := through(client); got != "bypass" {
		t.Errorf("with the cookie X-Detour = %q; want bypass", got)
	}

	path := filepath.Join(r.dir, "storage", "bypass.key")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 || info.Size() != 32 {
		t.Errorf("the key is %v, %v; want 32 bytes of mode 0600", info, err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	token := link[strings.LastIndex(link, "=")+1:]
	log, err := os.ReadFile(filepath.Join(r.dir, "log", "shop.log"))
	if err != nil || len(log) == 0 || strings.Contains(string(log), token) {
		t.Errorf("the access log holds the link's token, or nothing (%v):\n%s", err, log)
	}
	r.run(t, gateway.Options{})
	if got := through(r.client(t, "h2")); got != "bypass" {
		t.Errorf("after a restart X-Detour = %q; want bypass", got)
	}
}

// A cookie is of use for the name it was set by alone, so the link is for the
// name that was asked for, also for an alias and for a name below a wildcard.
func TestBypassNames(t *testing.T) {
	t.Parallel()
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %[1]q, online = false, aliases = [\"store\"] }\n\"*.pages.example.test\" = { upstream = %[1]q, online = false }\n", says(t, "shop")))
	for _, test := range []struct{ host, want string }{
		{"shop", "shop.example.test"},
		{"shop.example.test", "shop.example.test"},
		{"store.example.test", "store.example.test"},
		{"me.pages.example.test", "me.pages.example.test"},
	} {
		link, err := r.Bypass(test.host, time.Hour)
		if err != nil {
			t.Errorf("Bypass(%q): %v", test.host, err)
			continue
		}
		u, err := url.Parse(link)
		if err != nil || u.Hostname() != test.want {
			t.Errorf("Bypass(%q) = %q; want a link to %s", test.host, link, test.want)
			continue
		}
		u.Host = u.Hostname()
		client := r.client(t, "h2")
		resp, err := client.Get(u.String())
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+u.Host+"/", nil)
		for _, c := range resp.Cookies() {
			req.AddCookie(c)
		}
		if resp, err = client.Do(req); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Detour"); got != "bypass" {
			t.Errorf("with the cookie of %s X-Detour = %q; want bypass", test.host, got)
		}
	}
	for _, host := range []string{"*.pages.example.test"} {
		if link, err := r.Bypass(host, time.Hour); err == nil || !strings.Contains(err.Error(), "one of them") {
			t.Errorf("Bypass(%q) = %q, %v; want to be asked for one of its names", host, link, err)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	app := says(t, "x")
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %[1]q, online = false }\nblog = { upstream = %[1]q }\n", app))
	e, err := r.Explain(control.ExplainRequest{URL: "https://shop.example.test/cart?a=1"})
	if err != nil {
		t.Fatal(err)
	}
	entry := fmt.Sprintf("%s:%d", r.config, strings.Count(preamble, "\n")+2)
	if e.Host != "shop.example.test" || e.Key != "shop" || e.State != "offline" || e.Cause != "flag" || e.Action != "redirect" || e.Status != 302 ||
		e.Header.Get("Location") != "https://status.example.net/cart?a=1" || e.Entry != entry {
		t.Errorf("Explain(an offline host's page) = %+v", e)
	}
	e, err = r.Explain(control.ExplainRequest{URL: "https://shop.example.test/cart", Method: "POST", Header: http.Header{"accept": {"application/json"}}})
	if err != nil || e.Action != "unavailable" || e.Status != 503 {
		t.Errorf("Explain(a post to an offline host) = %+v, %v", e, err)
	}
	e, err = r.Explain(control.ExplainRequest{URL: "https://blog.example.test/"})
	if err != nil || e.State != "online" || e.Action != "proxy" || e.Status != 0 || e.Upstream != app {
		t.Errorf("Explain(an online host) = %+v, %v", e, err)
	}
	e, err = r.Explain(control.ExplainRequest{URL: "https://nobody.example.test/"})
	if err != nil || e.Host != "" || e.Status != 421 {
		t.Errorf("Explain(nobody's host) = %+v, %v", e, err)
	}
	for _, bad := range []control.ExplainRequest{{URL: "shop"}, {URL: "ftp://shop.example.test/"}, {URL: "https://shop.example.test/", Method: "A B"}, {URL: "https://shop.example.test/", Client: "me"}} {
		if e, err := r.Explain(bad); err == nil {
			t.Errorf("Explain(%+v) = %+v; want an error", bad, e)
		}
	}
	if n := r.host(t, "blog").Requests; n != 0 {
		t.Errorf("explaining counted %d requests", n)
	}
}

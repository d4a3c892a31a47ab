package acme_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"detour/acme"
	"detour/test/cloudflare"
	"detour/test/pebble"
)

func TestOrderPerHost(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test", "shop.example.test", "example.test"), nil)
	if leaf, err := served(m, "blog.example.test"); err != nil || !strings.HasPrefix(leaf.Issuer.CommonName, "detour local CA") {
		t.Errorf("before the first certificate: %v, %v; want one of the local CA", leaf, err)
	}
	if s := status(m, "blog.example.test"); s.State != acme.StatePending {
		t.Errorf("Status() = %+v; want pending", s)
	}
	w.waitTrusted(m, "blog.example.test", "shop.example.test", "example.test")
	if got := w.ca.Orders(); got != 3 {
		t.Errorf("orders = %d; want 3", got)
	}
	if s := status(m, "blog.example.test"); s.State != acme.StateValid || s.Error != "" || !strings.HasPrefix(s.Issuer, "Pebble") {
		t.Errorf("Status() = %+v; want valid, from Pebble", s)
	}
	w.noTXT()
}

func TestWildcard(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test", "shop.example.test", "example.test", "a.b.example.test"), []string{"example.test"})
	w.waitTrusted(m, "blog.example.test", "shop.example.test", "example.test", "a.b.example.test")
	if got := w.ca.Orders(); got != 3 {
		t.Errorf("orders = %d; want 3: *.example.test, the apex, the deeper name", got)
	}
	for name, want := range map[string]string{
		"blog.example.test": "*.example.test", "example.test": "example.test", "a.b.example.test": "a.b.example.test",
	} {
		if s := status(m, name); len(s.Names) != 1 || s.Names[0] != want {
			t.Errorf("%s is served by %v; want %s", name, s.Names, want)
		}
	}
	if _, err := served(m, "unknown.example.test"); err == nil {
		t.Error("a host that is not configured was served by the wildcard; want unrecognized name")
	}
	w.noTXT()
}

func TestAddAndRemoveWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("one.example.test"), nil)
	w.waitTrusted(m, "one.example.test")
	first, _ := served(m, "one.example.test")

	m.Manage(w.settings, hosts("one.example.test", "two.example.test"), nil)
	w.waitTrusted(m, "two.example.test")
	if again, _ := served(m, "one.example.test"); !again.Equal(first) {
		t.Error("adding a host changed the certificate of another one")
	}

	m.Manage(w.settings, hosts("two.example.test"), nil)
	if _, err := served(m, "one.example.test"); err == nil {
		t.Error("a removed host is still served")
	}
	// Back again: from the storage, without an order.
	m.Manage(w.settings, hosts("one.example.test", "two.example.test"), nil)
	w.waitTrusted(m, "one.example.test")
	if got := w.ca.Orders(); got != 2 {
		t.Errorf("orders = %d; want 2", got)
	}
	w.noTXT()
}

func TestRemoveWhileOrdering(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	w.cf.Lag(time.Hour)
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.eventually("the TXT record is made", func() bool { return len(w.cf.Records()) == 1 }, func() any { return m.Status() })
	m.Manage(w.settings, nil, nil)
	w.noTXT()
}

func TestBadTokenRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	good := w.token
	bad := "cf_secret_mistyped"
	w.settings.Token = func() (string, error) { return bad, nil }
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.eventually("it fails", func() bool { return status(m, "blog.example.test").State == acme.StateFailing }, func() any { return m.Status() })
	s := status(m, "blog.example.test")
	if !strings.Contains(s.Error, "token is not valid") || strings.Contains(s.Error, bad) {
		t.Errorf("Error = %q; want that the token is not valid, without the token", s.Error)
	}
	if wait := time.Until(s.NextTry); wait <= 0 || wait > time.Minute {
		t.Errorf("NextTry is in %s; want within a minute", wait)
	}
	w.settings.Token = func() (string, error) { return good, nil }
	m.Manage(w.settings, hosts("blog.example.test"), nil) // a reload with the repaired token is enough
	w.waitTrusted(m, "blog.example.test")
	w.noTXT()
}

func TestTokenGainsScopeRetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	w.cf.Allow(w.token, cloudflare.Scope{ZoneRead: true})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.eventually("it fails", func() bool { return status(m, "blog.example.test").State == acme.StateFailing }, func() any { return m.Status() })
	if s := status(m, "blog.example.test"); !strings.Contains(s.Error, "DNS:Edit") {
		t.Errorf("Error = %q; want that DNS:Edit is missing", s.Error)
	}
	w.cf.Allow(w.token, cloudflare.Full)
	m.Retry("blog.example.test")
	w.waitTrusted(m, "blog.example.test")
}

func TestCloudflareTrouble(t *testing.T) {
	t.Parallel()
	const html = "<html><head><title>502 Bad Gateway</title></head></html>"
	tests := []struct {
		name     string
		failures []cloudflare.Failure
	}{
		{"429 with JSON", []cloudflare.Failure{{Status: 429}, {Status: 429}}},
		{"429 as text with Retry-After", []cloudflare.Failure{{Status: 429, Body: "error code: 1015", RetryAfter: "1"}}},
		{"5xx as HTML", []cloudflare.Failure{{Status: 502, Body: html}, {Status: 503, Body: html}}},
		{"5xx on the record", []cloudflare.Failure{{Method: "POST", Status: 500, Body: "oops"}}},
		{"answer lost on delete", []cloudflare.Failure{{Method: "DELETE", Status: 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, pebble.Options{})
			w.cf.Fail(tt.failures...)
			m := w.start()
			m.Manage(w.settings, hosts("blog.example.test"), nil)
			w.waitTrusted(m, "blog.example.test")
			w.noTXT()
		})
	}
}

func TestRecordVisibleLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	w.cf.Lag(2 * time.Second)
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.waitTrusted(m, "blog.example.test")
	if got := w.ca.Orders(); got != 1 {
		t.Errorf("orders = %d; want 1", got)
	}
}

func TestResolversOneDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	w.settings.Resolvers = []string{"127.0.0.1:1", w.cf.DNS}
	w.cf.Lag(time.Second)
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.waitTrusted(m, "blog.example.test")
}

func TestRestartFromStorage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.waitTrusted(m, "blog.example.test")
	root, _ := m.LocalRoot()
	w.stop(m)

	asked := len(w.cf.Requests())
	m = w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.waitTrusted(m, "blog.example.test")
	if w.ca.Orders() != 1 || len(w.cf.Requests()) != asked {
		t.Errorf("after the restart: %d orders, Cloudflare was asked %v; want one order and no request", w.ca.Orders(), w.cf.Requests()[asked:])
	}
	if again, _ := m.LocalRoot(); string(again) != string(root) {
		t.Error("the local root changed with the restart")
	}
}

func TestFallbackIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{EAB: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	key := writeFile(t, "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W\n")
	second := w.settings.Issuers[0]
	second.EABKeyID, second.EABKeyFile = "kid-1", key
	first := pebble.Start(t, pebble.Options{DNS: w.cf.DNS})
	first.Down(true)
	w.settings.Issuers = []acme.Issuer{{CA: first.Directory, Roots: first.RootFile}, second}
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.waitTrusted(m, "blog.example.test")
}

func TestBothIssuersFailing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{EAB: map[string]string{"kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}})
	blocked := pebble.Start(t, pebble.Options{DNS: w.cf.DNS, Blocked: []string{"example.test"}})
	w.settings.Issuers = append([]acme.Issuer{{CA: blocked.Directory, Roots: blocked.RootFile}}, w.settings.Issuers...)
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.eventually("it fails", func() bool { return status(m, "blog.example.test").State == acme.StateFailing }, func() any { return m.Status() })
	got := status(m, "blog.example.test").Error
	for _, want := range []string{"does not issue for this name", "set eab_key_id and eab_key_file"} {
		if !strings.Contains(got, want) {
			t.Errorf("Error = %q; want it to say %q", got, want)
		}
	}
}

func TestChangedAuthority(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	other := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.waitTrusted(m, "blog.example.test")
	before, _ := served(m, "blog.example.test")

	// The new authority validates against w's zone, where the records appear.
	second := pebble.Start(t, pebble.Options{DNS: w.cf.DNS})
	second.Down(true)
	next := w.settings
	next.Issuers = []acme.Issuer{{CA: second.Directory, Roots: second.RootFile}}
	m.Manage(next, hosts("blog.example.test"), nil)
	w.eventually("the new authority fails", func() bool { return status(m, "blog.example.test").Error != "" }, func() any { return m.Status() })
	if leaf, _ := served(m, "blog.example.test"); leaf == nil || !leaf.Equal(before) {
		t.Error("the old certificate is not served while the new authority fails")
	}
	second.Down(false)
	m.Retry()
	other.ca = second
	other.waitTrusted(m, "blog.example.test")
}

func TestManyNamesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	var names []string
	for i := range 40 {
		names = append(names, fmt.Sprintf("host%d.example.test", i))
	}
	m.Manage(w.settings, hosts(names...), nil)
	w.waitTrusted(m, names...)
	if got := w.ca.Orders(); got != len(names) {
		t.Errorf("orders = %d; want %d", got, len(names))
	}
	w.noTXT()
	lists := 0
	for _, r := range w.cf.Requests() {
		if strings.HasPrefix(r, "GET /client/v4/zones?per_page") {
			lists++
		}
	}
	if lists > 2 {
		t.Errorf("the zones were listed %d times; want once for all", lists)
	}
}

// TestSplitHorizon: the system's resolver has its own, wrong view of the zone,
// and nobody needs it.
func TestSplitHorizon(t *testing.T) {
	t.Parallel()
	var dnsErr *net.DNSError
	if addrs, err := net.LookupHost("blog.example.test"); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
		t.Fatalf("LookupHost = %v, %v; want a resolver that lies", addrs, err)
	}
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), []string{"example.test"})
	w.waitTrusted(m, "blog.example.test")
	if w.cf.Queries() == 0 {
		t.Error("the zone's own name server was not asked")
	}
	w.noTXT()
}

package acme_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"detour/acme"
	"detour/test/cloudflare"
	"detour/test/pebble"
)

func TestCheckToken(t *testing.T) {
	t.Parallel()
	cf := cloudflare.Start(t, "example.test", "other.test")
	for i := range 60 { // more than a page
		cf.AddZone(strings.Repeat("z", i+1) + ".test")
	}
	tests := []struct {
		name  string
		token string
		names []string
		want  []string // none = nil
	}{
		{"good", cf.Token(cloudflare.Full), []string{"example.test", "blog.other.test", "*.other.test", strings.Repeat("z", 60) + ".test"}, nil},
		{"limited to the zone", cf.Token(cloudflare.Scope{ZoneRead: true, DNSEdit: true, Zones: []string{"example.test"}}), []string{"blog.example.test"}, nil},
		{"unknown", "cf_secret_unknown", []string{"example.test"}, []string{"token is not valid"}},
		{"disabled", cf.Token(cloudflare.Scope{Status: "disabled"}), []string{"example.test"}, []string{"the Cloudflare token is disabled"}},
		{"malformed", `"cf_secret_quoted"`, []string{"example.test"}, []string{"put the bare token there"}},
		{"no Zone:Read", cf.Token(cloudflare.Scope{DNSEdit: true}), []string{"example.test"}, []string{"lacks Zone:Read"}},
		{"no DNS", cf.Token(cloudflare.Scope{ZoneRead: true}), []string{"example.test", "a.example.test"}, []string{"zone example.test", "DNS:Edit"}},
		{"DNS:Read only", cf.Token(cloudflare.Scope{ZoneRead: true, DNSRead: true}), []string{"example.test"}, []string{"zone example.test", "DNS:Edit"}},
		{"other zone", cf.Token(cloudflare.Scope{ZoneRead: true, DNSEdit: true, Zones: []string{"other.test"}}), []string{"a.example.test", "b.example.org"},
			[]string{"no zone for a.example.test", "no zone for b.example.org", "sees only other.test"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := acme.CheckToken(t.Context(), tt.token, cf.URL, tt.names)
			if len(tt.want) == 0 {
				if err != nil {
					t.Errorf("CheckToken(%v) = %v; want nil", tt.names, err)
				}
				return
			}
			if err == nil {
				t.Fatalf("CheckToken(%v) = nil; want %v", tt.names, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("CheckToken(%v) = %q; want it to say %q", tt.names, err, want)
				}
			}
			if strings.Contains(err.Error(), "cf_secret") {
				t.Errorf("CheckToken(%v) = %q; it holds the token", tt.names, err)
			}
		})
	}
	if err := acme.CheckToken(t.Context(), "x", "http://127.0.0.1:1/client/v4", nil); !errors.Is(err, acme.ErrUnasked) || !strings.Contains(err.Error(), "cannot reach 127.0.0.1:1") {
		t.Errorf("CheckToken without a server = %v; want that it cannot be reached", err)
	}
	for _, r := range cf.Requests() {
		if !strings.HasPrefix(r, "GET ") {
			t.Errorf("the check sent %q; want nothing changed", r)
		}
	}
}

// TestTokenRotatedWithoutReload: repairing the token's file is enough.
func TestTokenRotatedWithoutReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	var token atomic.Pointer[string]
	bad := "cf_secret_bad"
	token.Store(&bad)
	w.settings.Token = func() (string, error) { return *token.Load(), nil }
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	w.eventually("it fails", func() bool { return status(m, "blog.example.test").State == acme.StateFailing }, func() any { return m.Status() })
	token.Store(&w.token)
	w.waitTrusted(m, "blog.example.test")
}

// The names differ from the other tests': certmagic's schedule of failed renewals
// is one for the process, by name.
func TestExpiredIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{Validity: 3 * time.Second})
	m := w.start()
	m.Manage(w.settings, hosts("expired.example.test"), nil)
	w.waitTrusted(m, "expired.example.test")
	w.ca.Down(true)
	w.eventually("it expires", func() bool { return status(m, "expired.example.test").State == acme.StateExpired }, func() any { return m.Status() })
	leaf, err := served(m, "expired.example.test")
	if err != nil || !strings.HasPrefix(leaf.Issuer.CommonName, "Pebble") {
		t.Errorf("served %v, %v; want the expired certificate of the authority", leaf, err)
	}
	w.eventually("the failure is shown", func() bool { return status(m, "expired.example.test").Error != "" }, func() any { return m.Status() })
	w.ca.Down(false)
	m.Retry("expired.example.test")
	w.waitTrusted(m, "expired.example.test")
}

// TestTokenNeverShown goes through answers that echo the token.
func TestTokenNeverShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{}) // looks through the log at its end
	m := w.start()
	for _, f := range []cloudflare.Failure{
		{Status: 403, Body: `{"success":false,"errors":[{"code":9109,"message":"Bearer ` + w.token + ` is wrong"}]}`},
		{Status: 200, Body: `<title>Hello ` + w.token + `</title>`},
	} {
		w.cf.Fail(f, f) // for the record and for its removal
		m.Manage(w.settings, hosts("blog.example.test"), nil)
		w.eventually("it fails", func() bool { return status(m, "blog.example.test").Error != "" }, func() any { return m.Status() })
		if got := status(m, "blog.example.test").Error; strings.Contains(got, w.token) || !strings.Contains(got, "(token)") {
			t.Errorf("Error = %q; want (token) in place of the token", got)
		}
		m.Manage(w.settings, nil, nil)
	}
}

package proxy

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestOrigin(t *testing.T) {
	cf := []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	all := TrustedOptions{Cloudflare: true, Private: true, CloudflareRanges: cf, Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}
	for _, tc := range []struct {
		name    string
		trusted TrustedOptions
		peer    string
		header  http.Header
		want    string
		believe bool
	}{
		{"nobody is believed", TrustedOptions{}, "127.0.0.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9"}}, "127.0.0.1", false},
		{"a stranger", all, "192.0.2.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9"}, "Cf-Connecting-Ip": {"9.9.9.9"}}, "192.0.2.1", false},
		{"one hop", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9"}}, "9.9.9.9", true},
		{"the right-most stranger", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"1.1.1.1, 9.9.9.9", "203.0.113.7, 10.2.3.4"}}, "9.9.9.9", true},
		{"all are believed", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"10.9.9.9, 10.8.8.8"}}, "10.9.9.9", true},
		{"nonsense ends the walk", all, "10.0.0.1:9", http.Header{"X-Forwarded-For": {"9.9.9.9, unknown, 10.8.8.8"}}, "10.8.8.8", true},
		{"no header", all, "10.0.0.1:9", nil, "10.0.0.1", true},
		{"ports and brackets", all, "[::1]:9", http.Header{"X-Forwarded-For": {"[2001:db8::5]:443, 10.1.1.1:80"}}, "2001:db8::5", true},
		{"mapped IPv4", all, "[::ffff:10.0.0.1]:9", http.Header{"X-Forwarded-For": {"::ffff:9.9.9.9"}}, "9.9.9.9", true},
		{"Cloudflare's word", all, "198.51.100.4:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}, "X-Forwarded-For": {"8.8.8.8"}}, "9.9.9.9", true},
		{"Cloudflare without it", all, "198.51.100.4:9", http.Header{"X-Forwarded-For": {"8.8.8.8"}}, "8.8.8.8", true},
		{"Cloudflare's word from another", all, "10.0.0.1:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}}, "10.0.0.1", true},
		{"Cloudflare is not trusted", TrustedOptions{CloudflareRanges: cf}, "198.51.100.4:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}}, "198.51.100.4", false},
		{"the embedded list", TrustedOptions{Cloudflare: true}, "[2606:4700::1]:9", http.Header{"Cf-Connecting-Ip": {"9.9.9.9"}}, "9.9.9.9", true},
		{"no address", all, "@", http.Header{"X-Forwarded-For": {"9.9.9.9"}}, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := NewTrusted(tc.trusted).origin(&http.Request{RemoteAddr: tc.peer, Header: tc.header})
			if got.text("") != tc.want || got.trusted != tc.believe {
				t.Errorf("origin = %q, trusted %v; want %q, %v", got.text(""), got.trusted, tc.want, tc.believe)
			}
		})
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("10.0.0.1:80", "9.9.9.9, 10.1.1.1", "1.2.3.4")
	f.Add("[::1]:1", ",,[::],", "")
	trusted := NewTrusted(TrustedOptions{Private: true, Cloudflare: true})
	f.Fuzz(func(t *testing.T, peer, forwarded, cf string) {
		o := trusted.origin(&http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": {forwarded}, "Cf-Connecting-Ip": {cf}}})
		if o.text("") != "" {
			if a, err := netip.ParseAddr(o.text("")); err != nil || a.Zone() != "" {
				t.Errorf("client %q is no plain address: %v", o.text(""), err)
			}
		}
		if !o.trusted && o.client != o.peer {
			t.Errorf("a stranger %v became %v", o.peer, o.client)
		}
	})
}

package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFetchCloudflareRanges(t *testing.T) {
	for _, tc := range []struct {
		name, body string
		want       []netip.Prefix
	}{
		{"ranges", `{"success":true,"result":{"ipv4_cidrs":["192.0.2.0/24"],"ipv6_cidrs":["2001:db8::/32"],"etag":"x"}}`,
			[]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}},
		{"none", `{"success":true,"result":{}}`, nil},
		{"refused", `{"success":false,"result":{"ipv4_cidrs":["192.0.2.0/24"]}}`, nil},
		{"everything", `{"success":true,"result":{"ipv4_cidrs":["0.0.0.0/0"]}}`, nil},
		{"mapped everything", `{"success":true,"result":{"ipv6_cidrs":["::/0"]}}`, nil},
		{"nonsense", `<html>`, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr := startUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/client/v4/ips" {
					t.Errorf("asked for %s; want /client/v4/ips", r.URL.Path)
				}
				io.WriteString(w, tc.body)
			}))
			got, err := FetchCloudflareRanges(t.Context(), http.DefaultClient, "http://"+addr+"/client/v4/")
			if (err == nil) != (tc.want != nil) {
				t.Fatalf("error = %v", err)
			}
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("ranges (-want +got):\n%s", diff)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FetchCloudflareRanges(ctx, http.DefaultClient, "http://127.0.0.1:1"); !errors.Is(err, context.Canceled) {
		t.Errorf("with a dead context: %v; want context.Canceled", err)
	}
}

package main

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"detour/control"

	"github.com/google/go-cmp/cmp"
)

func TestWriteExplanation(t *testing.T) {
	c := clock{time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC), time.UTC}
	for _, tt := range []struct {
		name string
		in   control.Explanation
		want string
	}{
		{"offline", control.Explanation{
			Host: "shop.example.org", Entry: "/etc/detour/proxy.toml:14",
			State: "offline", Cause: "window", Until: c.now.Add(time.Hour), Reason: "a\x1b[2J\tb",
			Kind: "page", Action: "redirect", Why: "the host is not online",
			Status: 302, Header: http.Header{"Location": {"https://status.example.net/\x1b"}, "Cache-Control": {"no-store"}},
		}, `GET https://shop.example.org/
  host     shop.example.org, /etc/detour/proxy.toml:14
  state    offline until 13:00 UTC (maintenance: a\x1b[2J\tb)
  client   page
  action   redirect: the host is not online
  answer   302 Found
           Cache-Control: no-store
           Location: https://status.example.net/\x1b
`},
		{"online", control.Explanation{Host: "shop.example.org", State: "online", Action: "proxy", Upstream: "10.1.1.4:80"}, `GET https://shop.example.org/
  host       shop.example.org
  state      online
  action     proxy
  upstream   10.1.1.4:80
`},
		{"nobody's", control.Explanation{Action: "refused", Status: 421}, `GET https://shop.example.org/
  host     none of [hosts] is for this name
  action   refused
  answer   421 Misdirected Request
`},
	} {
		var got bytes.Buffer
		writeExplanation(&got, "GET https://shop.example.org/", tt.in, c)
		if diff := cmp.Diff(strings.Split(tt.want, "\n"), strings.Split(got.String(), "\n")); diff != "" {
			t.Errorf("%s: writeExplanation() (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestAbsolute(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"https://shop.example.org/cart", "https://shop.example.org/cart"},
		{"http://shop.example.org", "http://shop.example.org"},
		{"shop.example.org:8443/a?b=//c", "https://shop.example.org:8443/a?b=//c"},
		{"ftp://shop.example.org", ""},
		{"https://", ""},
		{"https://shop.example.org/%zz", ""},
		{"shop.example.org/?next=https://other.example.org", "https://shop.example.org/?next=https://other.example.org"},
	} {
		if got, err := absolute("absent.toml", tt.in); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("absolute(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
}

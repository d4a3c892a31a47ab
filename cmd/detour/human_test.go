package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"detour/control"

	"github.com/google/go-cmp/cmp"
)

func TestPrintable(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", `dial tcp: "refused" it's`, `dial tcp: "refused" it's`},
		{"other scripts", "Größe 東京", "Größe 東京"},
		{"escape sequence", "\x1b[2Jgone", `\x1b[2Jgone`},
		{"new line", "a\nb\r", `a\nb\r`},
		{"bidi override", "a\u202eb", `a\u202eb`},
		{"not UTF-8", "a\xffb", "a\ufffdb"},
	} {
		if got := printable(tt.in); got != tt.want {
			t.Errorf("%s: printable(%q) = %q; want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestSpan(t *testing.T) {
	for _, tt := range []struct {
		in   time.Duration
		want string
	}{
		{-time.Hour, "0 s"},
		{0, "0 s"},
		{119 * time.Second, "119 s"},
		{2 * time.Minute, "2 min"},
		{119 * time.Minute, "119 min"},
		{2 * time.Hour, "2 h"},
		{48 * time.Hour, "2 days"},
		{89 * 24 * time.Hour, "89 days"},
	} {
		if got := span(tt.in); got != tt.want {
			t.Errorf("span(%v) = %q; want %q", tt.in, got, tt.want)
		}
	}
}

func TestWriteStatus(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	wildcard := &control.Certificate{Names: []string{"*.example.org"}, State: "failing", NotAfter: now.Add(70 * time.Hour), Error: "token rejected\x1b[0m", NextTry: now.Add(40 * time.Second)}
	st := control.Status{
		Version: "1.2.3", Config: "/etc/detour/proxy.toml", Generation: 7,
		Started: now.Add(-72 * time.Hour), Reloaded: now.Add(-3 * time.Minute),
		Hosts: []control.Host{
			{Host: "blog.example.org", State: "online", Upstream: "10.1.1.4:80", InFlight: 3, Certificate: &control.Certificate{State: "valid", NotAfter: now.Add(61 * 24 * time.Hour)}},
			{Host: "shop.example.org", State: "offline", Cause: "window", Reason: "gone\x1b[2J\nfor good", Until: now.Add(90 * time.Minute), StatusPage: "https://status.example.net{uri}", Upstream: "10.1.1.5:80", Certificate: wildcard},
			{Host: "cart.example.org", State: "draining", Cause: "flag", DrainUntil: now.Add(10 * time.Minute), StatusPage: "https://status.example.net/{host}", Upstream: "10.1.1.5:80", InFlight: 4, Sessions: 1, Streams: 2, Certificate: wildcard,
				Upstreams: []control.Upstream{{Address: "10.1.1.5:80", Health: "unhealthy"}, {Address: "10.1.1.9:80", Standby: true, Health: "healthy"}}},
			{Host: "cloud.example.org", State: "online", Upstream: "10.1.1.6:80", Certificate: wildcard, LastError: "refused\n\x1b[31m", LastErrorAt: now.Add(-5 * time.Second)},
			{Host: "old.example.org", State: "online", Upstream: "10.1.1.7:80", Certificate: &control.Certificate{State: "expired", NotAfter: now.Add(-50 * time.Hour)}},
			{Host: "new.example.org", State: "online", Health: "unhealthy", Upstream: "10.1.1.8:80", Next: &control.Window{Begin: now.Add(24 * time.Hour), From: now.Add(25 * time.Hour), Until: now.Add(26 * time.Hour), Reason: "\x07"}, Certificate: &control.Certificate{State: "pending"}},
		},
		Logs:     control.Logs{Dir: "/var/log/detour", Dropped: 12, Error: "no space left on device"},
		Problems: []string{"proxy.toml:3:1: hosts.blog.upstream: is empty"},
	}
	want := `detour 1.2.3, up 3 days, generation 7 since 3 min ago, /etc/detour/proxy.toml

HOST                STATE                      WHY                  UPSTREAM                                         CERTIFICATE          IN FLIGHT   LAST ERROR
blog.example.org    online                     -                    10.1.1.4:80                                      61 days left         3           -
shop.example.org    offline until 13:30 UTC    window               10.1.1.5:80                                      failing              0           -
cart.example.org    draining until 12:10 UTC   flag                 10.1.1.5:80 (unhealthy), 10.1.1.9:80 (standby)   failing              4           -
cloud.example.org   online                     -                    10.1.1.6:80                                      failing              0           5 s ago: refused\n\x1b[31m
old.example.org     online                     -                    10.1.1.7:80                                      expired 2 days ago   0           -
new.example.org     online                     upstream unhealthy   10.1.1.8:80                                      being ordered        0           -

shop.example.org is offline until 13:30 UTC (maintenance: gone\x1b[2J\nfor good): visitors go to https://status.example.net
cart.example.org is draining until 12:10 UTC (flag): running sessions go on, new visitors go to https://status.example.net/cart.example.org; 4 in flight, 1 session request, 2 streams open
new.example.org goes offline at 2026-05-02 13:00 UTC until 2026-05-02 14:00 UTC, draining from 2026-05-02 12:00 UTC (\a)

certificate of *.example.org: token rejected\x1b[0m; next try in 40 s
access logs in /var/log/detour: no space left on device
access logs in /var/log/detour: 12 lines lost
the last reload was refused, generation 7 stays in force:
  proxy.toml:3:1: hosts.blog.upstream: is empty
`
	var got bytes.Buffer
	writeStatus(&got, st, clock{now, time.UTC})
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got.String(), "\n")); diff != "" {
		t.Errorf("writeStatus() (-want +got):\n%s", diff)
	}
}

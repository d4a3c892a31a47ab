package proxy

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// headerOf sends a request through a rig and returns the header that its
// upstream saw.
func headerOf(t *testing.T, o rigOptions, c func(*rig) *http.Client, req *http.Request) http.Header {
	t.Helper()
	seen := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		seen <- r.Header.Clone()
	}), o)
	do(t, c(r), req)
	return <-seen
}

func TestRequestHeader(t *testing.T) {
	everything := http.Header{
		"Accept-Encoding":     {"br"},
		"Cookie":              {"a=b"},
		"X-Custom":            {"1", "2"},
		"Forwarded":           {"for=9.9.9.9"},
		"X-Forwarded-For":     {"9.9.9.9, 192.0.2.7"},
		"X-Forwarded-Proto":   {"ftp"},
		"X-Forwarded-Host":    {"evil.test"},
		"X-Real-Ip":           {"9.9.9.9"},
		"Cf-Connecting-Ip":    {"9.9.9.9"},
		"True-Client-Ip":      {"9.9.9.9"},
		"X-Request-Id":        {"mine"},
		"Proxy":               {"http://evil.test"},
		"Via":                 {"1.0 fred"},
		"Proxy-Authorization": {"secret"},
		"Te":                  {"trailers"},
	}
	hop := http.Header{"Connection": {"x-private, close"}, "X-Private": {"1"}, "Keep-Alive": {"5"}, "Proxy-Connection": {"x"}, "Te": {"trailers, deflate"}}
	loopback := TrustedOptions{Private: true}
	for _, tc := range []struct {
		name     string
		protocol string
		trusted  TrustedOptions
		sent     http.Header
		want     http.Header // X-Request-Id "*" = any
	}{
		{"nothing is invented", "h1", TrustedOptions{}, nil, http.Header{
			"Via":               {"1.1 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
		{"a stranger's words are replaced", "h2", TrustedOptions{}, everything, http.Header{
			"Accept-Encoding":   {"br"},
			"Cookie":            {"a=b"},
			"X-Custom":          {"1", "2"},
			"Te":                {"trailers"},
			"Via":               {"1.0 fred", "2.0 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
		{"a trusted peer's are kept", "h2", loopback, everything, http.Header{
			"Accept-Encoding":   {"br"},
			"Cookie":            {"a=b"},
			"X-Custom":          {"1", "2"},
			"Forwarded":         {"for=9.9.9.9"},
			"Te":                {"trailers"},
			"Via":               {"1.0 fred", "2.0 detour"},
			"X-Forwarded-For":   {"9.9.9.9, 192.0.2.7, 127.0.0.1"},
			"X-Real-Ip":         {"192.0.2.7"},
			"Cf-Connecting-Ip":  {"9.9.9.9"},
			"True-Client-Ip":    {"9.9.9.9"},
			"X-Forwarded-Proto": {"ftp"},
			"X-Forwarded-Host":  {"evil.test"},
			"X-Request-Id":      {"mine"},
		}},
		{"hop by hop", "h1", TrustedOptions{}, hop, http.Header{
			"Te":                {"trailers"},
			"Via":               {"1.1 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
		{"a stranger in HTTP/3", "h3", TrustedOptions{}, http.Header{"X-Forwarded-For": {"9.9.9.9"}}, http.Header{
			"Via":               {"3.0 detour"},
			"X-Forwarded-For":   {"127.0.0.1"},
			"X-Real-Ip":         {"127.0.0.1"},
			"X-Forwarded-Proto": {"https"},
			"X-Forwarded-Host":  {host},
			"X-Request-Id":      {"*"},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
			req.Header = tc.sent.Clone()
			if req.Header == nil {
				req.Header = http.Header{}
			}
			req.Header["User-Agent"] = nil
			if tc.protocol == "h3" {
				req.Header["User-Agent"] = []string{""} // quic-go's way to send none
			}
			got := headerOf(t, rigOptions{trusted: tc.trusted}, func(r *rig) *http.Client { return r.client(t, tc.protocol) }, req)
			if id := got.Get("X-Request-Id"); tc.want.Get("X-Request-Id") == "*" && len(id) > 20 {
				got.Set("X-Request-Id", "*")
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("header at the upstream (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHostField(t *testing.T) {
	hosts := make(chan string, 1)
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hosts <- r.Host })
	plain := newRig(t, h, rigOptions{})
	addr := startTLSUpstream(t, h)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	eachProtocol(t, plain.edge, func(t *testing.T, c *http.Client, _ string) {
		get(t, c, "https://"+host+":8443/")
		if got, want := <-hosts, host+":8443"; got != want {
			t.Errorf("Host at an http upstream = %q; want %q", got, want)
		}
	})
	for name, want := range map[string]string{"": addr, "example.test": "example.test:" + port} {
		secure := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "https", Address: addr, ServerName: name, RootsPEM: testRootsPEM()}})
		get(t, secure.client(t, "h2"), "https://"+host+"/")
		if got := <-hosts; got != want {
			t.Errorf("Host at an https upstream with server name %q = %q; want %q", name, got, want)
		}
	}
}

// A port may be empty (RFC 3986, 3.2.3), but not every parser of HTTP/1 knows.
func TestEmptyPort(t *testing.T) {
	addr, heads := recorder(t)
	r := newRig(t, nil, rigOptions{upstream: UpstreamOptions{Scheme: "http", Address: addr}})
	for _, protocol := range []string{"h2", "h3"} { // on HTTP/1 the server refuses it
		req := newRequest(t, http.MethodGet, "https://"+host+"/", nil)
		req.Host = host + ":"
		if res, _ := do(t, r.client(t, protocol), req); res.StatusCode != http.StatusNoContent {
			t.Errorf("%s: answer to the host %q = %d; want 204", protocol, req.Host, res.StatusCode)
			continue
		}
		head := <-heads
		for _, field := range []string{"\r\nHost: " + host + "\r\n", "\r\nX-Forwarded-Host: " + host + "\r\n"} {
			if !strings.Contains(head, field) {
				t.Errorf("%s: the upstream got %q; want %q in it", protocol, head, field)
			}
		}
	}
}

func TestUnderscoreHeaders(t *testing.T) {
	seen := make(chan http.Header, 1)
	r := newRig(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header.Clone() }), rigOptions{})
	const request = "GET / HTTP/1.1\nHost: " + host + "\nConnection: close\nX_Alone: kept\nX_Twin: dropped\nX-Twin: kept\nX_Real_IP: 9.9.9.9\nCF_Connecting_IP: 9.9.9.9\n\n"
	for range 3 {
		r.raw(t, request)
		got := <-seen
		for name, want := range map[string]string{"X_alone": "kept", "X_twin": "", "X-Twin": "kept", "X_real_ip": "", "X-Real-Ip": "127.0.0.1", "Cf_connecting_ip": ""} {
			if v := strings.Join(got[name], ","); v != want {
				t.Errorf("%s at the upstream = %q; want %q", name, v, want)
			}
		}
	}
	if n := strings.Count(r.messages.String(), "X_twin"); n != 1 {
		t.Errorf("warned %d times about X_twin; want once:\n%s", n, r.messages)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	h := NewHandler(HandlerOptions{})
	for i := range 5000 {
		h.warnings.underscore(host, fmt.Sprint("X_", i), "")
	}
	if n := len(h.warnings.told); n > 1000 {
		t.Errorf("%d warnings remembered; want at most 1000", n)
	}
}

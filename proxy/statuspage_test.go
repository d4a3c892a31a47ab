package proxy

import (
	"bufio"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
)

// readRequest parses a request as a server gets it.
func readRequest(t testing.TB, head string) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head + "\r\n\r\n")))
	if err != nil {
		t.Fatalf("ReadRequest(%q): %v", head, err)
	}
	return r
}

func TestStatusPageLocation(t *testing.T) {
	const plain = "https://status.example{uri}"
	tests := []struct {
		name, template, target, want string
	}{
		{"root", plain, "/", "https://status.example/"},
		{"path and query", plain, "/a/b?c=d&e", "https://status.example/a/b?c=d&e"},
		{"escaped slash is kept", plain, "/a%2Fb", "https://status.example/a%2Fb"},
		{"lower-case escape is kept", plain, "/a%2fb%e2%82%ac", "https://status.example/a%2fb%e2%82%ac"},
		{"lone question mark is kept", plain, "/a?", "https://status.example/a?"},
		{"two slashes are kept", plain, "//evil.example/x", "https://status.example//evil.example/x"},
		{"dots are kept", plain, "/a/../b/./c", "https://status.example/a/../b/./c"},
		{"semicolon and broken escape in the query", plain, "/a?b;c=%zz", "https://status.example/a?b;c=%zz"},
		{"absolute form", plain, "http://blog.example/a?b", "https://status.example/a?b"},
		{"absolute form without path", plain, "http://blog.example", "https://status.example/"},
		{"absolute form, query only", plain, "http://blog.example?q", "https://status.example/?q"},
		{"absolute form, lone question mark", plain, "http://blog.example/?", "https://status.example/?"},
		{"asterisk", plain, "*", "https://status.example/"},
		{"beyond ASCII", plain, "/caf\xc3\xa9?\xff", "https://status.example/caf%C3%A9?%FF"},
		{"no placeholder", "https://status.example/blog", "/a?b", "https://status.example/blog"},
		{"no path", "https://status.example", "/a", "https://status.example"},
		{"host", "https://status.example/{host}", "/a", "https://status.example/blog.example"},
		{"host and uri", "https://status.example/{host}{uri}#now", "/a?b", "https://status.example/blog.example/a?b#now"},
		{"in the query", "https://status.example/?from={uri}&at={host}", "/a", "https://status.example/?from=/a&at=blog.example"},
		{"base path", "http://status.example:8080/base{uri}", "/a", "http://status.example:8080/base/a"},
		{"IPv6", "https://[2001:db8::1]:8443{uri}", "/a", "https://[2001:db8::1]:8443/a"},
		{"case and umlaut", "HTTPS://Störung.Example/ä{uri}", "/a", "https://xn--strung-xxa.example/%C3%A4/a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			page, err := ParseStatusPage(tt.template)
			if err != nil {
				t.Fatalf("ParseStatusPage(%q): %v", tt.template, err)
			}
			method := "GET"
			if tt.target == "*" {
				method = "OPTIONS"
			}
			r := readRequest(t, method+" "+tt.target+" HTTP/1.1\r\nHost: blog.example")
			if got := page.Location(r, "blog.example"); got != tt.want {
				t.Errorf("Location(%q) = %q; want %q", tt.target, got, tt.want)
			}
			if page.IsZero() {
				t.Error("IsZero() = true; want false")
			}
		})
	}
}

// HTTP/2 and 3 hand over targets that HTTP/1 cannot.
func TestStatusPageLocationOfOddTargets(t *testing.T) {
	page, err := ParseStatusPage("https://status.example{uri}")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		uri  string
		url  url.URL
		want string
	}{
		{"space", "/a b", url.URL{}, "https://status.example/a%20b"},
		{"line break", "/a\r\nSet-Cookie: x=y", url.URL{}, "https://status.example/a%0D%0ASet-Cookie:%20x=y"},
		{"empty", "", url.URL{}, "https://status.example/"},
		{"authority of CONNECT", "evil.example:443", url.URL{Host: "evil.example:443"}, "https://status.example/"},
		{"opaque", "mailto:x", url.URL{Scheme: "mailto", Opaque: ".evil.example"}, "https://status.example/"},
		{"userinfo", "@evil.example", url.URL{Path: "@evil.example"}, "https://status.example/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RequestURI: tt.uri, URL: &tt.url}
			if got := page.Location(r, "blog.example"); got != tt.want {
				t.Errorf("Location(%q) = %q; want %q", tt.uri, got, tt.want)
			}
		})
	}
}

func TestStatusPageLink(t *testing.T) {
	for template, want := range map[string]string{
		"":                              "",
		"https://status.example{uri}":   "https://status.example/",
		"https://status.example/{host}": "https://status.example/blog.example",
	} {
		page, err := ParseStatusPage(template)
		if err != nil {
			t.Fatal(err)
		}
		if got := page.Link("blog.example"); got != want {
			t.Errorf("ParseStatusPage(%q).Link() = %q; want %q", template, got, want)
		}
	}
}

func TestParseStatusPageRefuses(t *testing.T) {
	for template, want := range map[string]string{
		"status.example{uri}":                "must begin with https://",
		"//status.example":                   "must begin with https://",
		"ftp://status.example":               "must begin with https://",
		"javascript:alert(1)":                "must begin with https://",
		"https://{uri}":                      "needs a plain host name",
		"https:///a":                         "needs a plain host name",
		"https://:443/a":                     "needs a plain host name",
		"https://me:pw@status.example":       "without user or password",
		"https://{host}.status.example{uri}": "would let a request choose the site",
		"https://status.example{host}":       "would let a request choose the site",
		"https://status.example:{uri}x:y":    "", // an empty port is allowed, RFC 3986
		"https://status.example/{url}":       "unknown placeholder",
		"https://status.example/{uri":        "unknown placeholder",
		"https://status.example/uri}":        "without a {",
		"https://status.example:port{uri}":   "needs a plain host name",
		"https://status .example/":           "needs a plain host name",
		"https://status_page!.example/":      "host name",
		"https://status.example/%zz":         "invalid URL escape",
		"https://status.example/>;rel=x":     "percent-encoded only",
		`https://status.example\@evil{uri}`:  "percent-encoded only",
	} {
		_, err := ParseStatusPage(template)
		switch {
		case want == "" && err != nil:
			t.Errorf("ParseStatusPage(%q): %v", template, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("ParseStatusPage(%q) = %v; want an error with %q", template, err, want)
		}
	}
}

// Whatever the template and the request: the redirect stays on the template's
// site, and the value can stand in a header field.
func FuzzStatusPage(f *testing.F) {
	for _, template := range []string{"https://status.example{uri}", "https://s.example/{host}?f={uri}", "http://s.example:8080", "https://x{uri}@evil", "https://x{uri}{uri}"} {
		for _, uri := range []string{"/", "", "//evil", ".evil.example", "@evil.example/", "\\evil", "/\r\nX: y", "*", "http://evil/", ":80"} {
			f.Add(template, uri, "blog.example")
		}
	}
	f.Fuzz(func(t *testing.T, template, uri, host string) {
		page, err := ParseStatusPage(template)
		if err != nil || page.IsZero() {
			return
		}
		u, err := url.ParseRequestURI(uri)
		if err != nil {
			u = &url.URL{Path: uri}
		}
		site, err := url.Parse(page.Link("blog.example"))
		if err != nil {
			t.Fatalf("Link of %q is no URL: %v", template, err)
		}
		got := page.Location(&http.Request{RequestURI: uri, URL: u}, host)
		origin := site.Scheme + "://" + site.Host
		if rest, ok := strings.CutPrefix(got, origin); !ok || rest != "" && !strings.Contains("/?#", rest[:1]) {
			t.Errorf("%q with %q goes to %q; want the site %s", template, uri, got, origin)
		}
		if !httpguts.ValidHeaderFieldValue(got) || strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%q with %q gives %q; want a header field value", template, uri, got)
		}
	})
}

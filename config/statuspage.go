package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/idna"
)

var placeholder = regexp.MustCompile(`\{[^{}]*\}?|\}`)

// statusPage checks a template: an absolute http or https URL with no
// placeholder before the end of its host, so that no request can move the
// redirect to another site.
func statusPage(s string) (string, error) {
	const form = `must be an absolute URL, such as "https://status.example.org{uri}"`
	for _, p := range placeholder.FindAllString(s, -1) {
		if p != "{uri}" && p != "{host}" {
			return "", fmt.Errorf("unknown placeholder %s; there are {uri} and {host}", quote(p))
		}
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || strings.IndexByte("\"<>\\^`|", s[i]) >= 0 {
			return "", errors.New("must be a URL of ASCII characters without spaces; write others percent-encoded, international hosts as xn--…")
		}
	}
	authority, ok := pageAuthority(s)
	switch {
	case strings.Contains(authority, "{"), ok && strings.Contains(s, "://{uri}"):
		return "", errors.New("the host must be constant: {uri} and {host} can only come after it")
	case !ok || authority == "":
		return "", errors.New(form)
	case strings.Contains(authority, "@"):
		return "", errors.New("must not hold a user or password")
	case strings.HasSuffix(authority, ":"):
		return "", errors.New("has a colon without a port")
	case strings.Count(authority, ":") > 1 && authority[0] != '[':
		return "", errors.New("an IPv6 address must be in brackets in a URL")
	}
	if _, err := hostPort(authority, "443", 1); err != nil {
		return "", err
	}
	u, err := url.Parse(strings.NewReplacer("{host}", "host.example", "{uri}", "/").Replace(s))
	if err != nil {
		return "", errors.New(form)
	}
	// Stricter than for an upstream: browsers must be able to go there.
	if _, err := idna.Lookup.ToASCII(u.Hostname()); err != nil && authority[0] != '[' {
		return "", fmt.Errorf("%s is not a host name a browser can open", quote(u.Hostname()))
	}
	return s, nil
}

// pageAuthority returns what stands between :// and the path of a template. {uri}
// begins with a slash, so it may end the authority.
func pageAuthority(template string) (authority string, ok bool) {
	scheme, rest, ok := strings.Cut(template, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "{uri}")
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest, true
}

// pageTarget returns the host and port a valid template sends visitors to.
func pageTarget(template string) (host, port string) {
	authority, _ := pageAuthority(template)
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		host, port = authority, "443"
		if strings.HasPrefix(strings.ToLower(template), "http:") {
			port = "80"
		}
	}
	return strings.TrimSuffix(strings.ToLower(host), "."), port
}

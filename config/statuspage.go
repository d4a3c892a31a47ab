package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

var placeholder = regexp.MustCompile(`\{[^{}]*\}?|\}`)

// statusPage checks a template: an absolute http or https URL, all of whose
// text up to the end of the host is constant or {host}, so that no request can
// move the redirect to another site.
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
	if !ok || authority == "" {
		return "", errors.New(form + "; {uri} can only follow the host")
	}
	if strings.Contains(authority, "@") {
		return "", errors.New("must not hold a user or password")
	}
	example := strings.NewReplacer("{host}", "host.example", "{uri}", "/")
	if _, err := url.Parse(example.Replace(s)); err != nil {
		return "", errors.New(form)
	}
	if err := checkPageHost(example.Replace(authority)); err != nil {
		return "", err
	}
	return s, nil
}

// checkPageHost checks host[:port]. A page may lie on an address.
func checkPageHost(s string) error {
	if strings.HasSuffix(s, ":") {
		return errors.New("has a colon without a port")
	}
	if _, err := hostPort(s, "443", 1); err != nil {
		return err
	}
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		return errors.New("an IPv6 address stands in brackets in a URL")
	}
	return nil
}

// pageAuthority returns what stands between :// and the path of a template.
func pageAuthority(template string) (authority string, ok bool) {
	scheme, rest, ok := strings.Cut(template, "://")
	if !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", false
	}
	if i := strings.Index(rest, "{uri}"); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest, true
}

// pageTarget returns the host and port a template sends the visitors of host to.
func pageTarget(template, host string) (name, port string) {
	authority, _ := pageAuthority(template)
	authority = strings.ToLower(strings.ReplaceAll(authority, "{host}", host))
	name, port, err := net.SplitHostPort(authority)
	if err != nil {
		name, port = authority, "443"
		if strings.HasPrefix(strings.ToLower(template), "http:") {
			port = "80"
		}
	}
	return strings.TrimSuffix(name, "."), port
}

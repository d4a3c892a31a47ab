package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// dnsName returns the canonical form of a full host name: lower case, punycode,
// without a trailing dot.
func dnsName(s string) (string, error) {
	name := strings.ToLower(s)
	if !isASCII(s) || strings.Contains(name, "xn--") {
		ascii, err := idna.Lookup.ToASCII(s)
		if again, err2 := idna.Lookup.ToASCII(ascii); err != nil || err2 != nil || again != ascii {
			return "", fmt.Errorf("%s is not a valid international name", quote(s)) // some pass once, but what they become does not
		}
		name = ascii
	}
	name = strings.TrimSuffix(name, ".")
	switch {
	case strings.Contains(s, "://"):
		return "", errors.New("must be a host name only, without scheme and path")
	case strings.Contains(s, "*"):
		return "", fmt.Errorf(`%s: a wildcard can only be the whole first part, as in "*.example.org"`, quote(s))
	case len(name) > 253: // RFC 1035, 2.3.4, without the root's length byte
		return "", errors.New("is longer than the 253 characters a host name may have")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", fmt.Errorf("%s is an address; a host needs a name", quote(s))
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !isLabel(label) {
			return "", fmt.Errorf("%s is not a host name: parts of 1 to 63 letters, digits and inner hyphens, joined by dots", quote(s))
		}
	}
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" {
		return "", fmt.Errorf("%s is not a host name: the last part is a number", quote(s))
	}
	return name, nil
}

// isLabel follows RFC 1123, 2.1.
func isLabel(s string) bool {
	if len(s) < 1 || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// zoneName is a full name that is not a wildcard.
func zoneName(s string) (string, error) {
	if s == "@" {
		return "", errors.New(`must be the domain itself, such as "example.org"`)
	}
	return dnsName(s)
}

// hostName returns the canonical full name of a name in [hosts]: "@" is the
// domain, a name without a dot lives below it, "*." is the wildcard of one label.
func hostName(s, domain string) (string, error) {
	if s == "@" || s == "*" || !strings.ContainsAny(s, ".。．｡") { // the dots of UTS 46
		if domain == "" {
			return "", fmt.Errorf(`%s is a short name, but there is no domain; set domain = "…" at the top of the file or write the full name`, quote(s))
		}
		if s == "@" {
			return domain, nil
		}
		s += "." + domain
	}
	rest, wildcard := strings.CutPrefix(s, "*.")
	name, err := dnsName(rest)
	if err != nil {
		return "", err
	}
	if wildcard {
		name = "*." + name
	}
	return name, nil
}

// FullName is the canonical name of a host as an operator writes it: short or
// full, in any case, international or not.
func (c *Config) FullName(named string) (string, error) { return hostName(named, c.Domain) }

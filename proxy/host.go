package proxy

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// CanonicalHost is the canonical form of a Host header field or :authority
// (RFC 9110, 7.2): lower case, without a port and without one trailing dot,
// internationalized names in punycode. An IP literal comes in its shortest
// form, IPv6 with its brackets, so that the result can always stand in a URL.
//
// The error is for a value that names no host: empty, with a byte that a host
// name cannot have, with a label over 63 or a name over 253 bytes, with a port
// that is no number.
func CanonicalHost(hostport string) (string, error) {
	host, port, err := splitPort(hostport)
	if err != nil {
		return "", err
	}
	if !validPort(port) {
		return "", fmt.Errorf("host %q: the port is not a number", hostport)
	}
	if strings.HasPrefix(host, "[") {
		addr, err := netip.ParseAddr(host[1 : len(host)-1])
		if err != nil || !addr.Is6() || addr.Zone() != "" {
			return "", fmt.Errorf("host %q: not an IPv6 address in the brackets", hostport)
		}
		return "[" + addr.String() + "]", nil
	}
	host = strings.TrimSuffix(host, ".")
	ascii, lower := true, true
	for i := range len(host) {
		c := host[i]
		ascii = ascii && c < 0x80
		lower = lower && (c < 'A' || c > 'Z')
	}
	switch {
	case !ascii:
		if host, err = idna.Lookup.ToASCII(host); err != nil {
			return "", fmt.Errorf("host %q: %w", hostport, err)
		}
	case !lower:
		host = strings.ToLower(host)
	}
	if !validName(host) {
		return "", fmt.Errorf("host %q: not a host name", hostport)
	}
	return host, nil
}

// hostField is hostport, which has a canonical form, as it is sent on: an empty
// port, which RFC 3986 allows and RFC 9110 (4.2.3) takes for none, is left out,
// since not every parser takes it.
func hostField(hostport string) string { return strings.TrimSuffix(hostport, ":") }

// splitPort cuts the port off; an IPv6 address must stand in brackets, which
// stay with the host.
func splitPort(hostport string) (host, port string, err error) {
	if strings.HasPrefix(hostport, "[") {
		end := strings.IndexByte(hostport, ']')
		if end < 0 || end+1 < len(hostport) && hostport[end+1] != ':' {
			return "", "", fmt.Errorf("host %q: brackets do not match", hostport)
		}
		return hostport[:end+1], strings.TrimPrefix(hostport[end+1:], ":"), nil
	}
	host, port, _ = strings.Cut(hostport, ":")
	return host, port, nil
}

// validPort reports whether s is digits only; RFC 3986 allows an empty port.
func validPort(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= len("65535")
}

// validName reports whether s is labels of lower-case letters, digits, hyphens
// and underscores. An underscore is not a host name's by RFC 952, but it works
// in the DNS and is met in home networks.
func validName(s string) bool {
	const maxName, maxLabel = 253, 63 // RFC 1035, 2.3.4
	if s == "" || len(s) > maxName {
		return false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.':
			if label == 0 {
				return false
			}
			label = 0
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			if label++; label > maxLabel {
				return false
			}
		default:
			return false
		}
	}
	return label > 0
}

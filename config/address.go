package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// upstream reads the forms of hosts.*.upstream.
func upstream(s string) (Upstream, error) {
	if path, ok := unixPath(s); ok {
		if !strings.HasPrefix(path, "/") {
			return Upstream{}, errors.New(`a socket needs its absolute path: "unix//run/app.sock"`)
		}
		path, err := socketPath(path)
		return Upstream{Scheme: "unix", Address: path}, err
	}
	scheme, rest := "http", s
	if before, after, ok := strings.Cut(s, "://"); ok {
		scheme, rest = strings.ToLower(before), after
	}
	port := schemePort(scheme)
	switch {
	case port == "":
		return Upstream{}, fmt.Errorf("%s is no scheme of an upstream; use http://, https:// (TLS), h2c:// (HTTP/2 without TLS, for gRPC) or unix//path", quote(scheme+"://"))
	case strings.Contains(rest, "@"):
		return Upstream{}, errors.New("must not hold a user or password")
	case strings.ContainsAny(rest, "/?#\\"):
		return Upstream{}, errors.New("must be an address only, without path, query or fragment: the visitor's are passed on as they are")
	}
	address, err := hostPort(rest, port, 1)
	return Upstream{Scheme: scheme, Address: address}, err
}

// upstreams are the upstreams that share a host's requests: one, or a list.
func upstreams(to *[]Upstream) value {
	const typ = "upstream"
	return value{typ + ", or a list of them", func(d *decoder, n *node) {
		switch {
		case !d.want(n, "an "+typ+` in quotes, or a list of them, ["…", "…"]`, kindText, kindList):
		case n.kind == kindList:
			upstreamList(to).set(d, n)
			if len(n.members) == 0 {
				d.fail(n, errors.New(`names no upstream; write for example upstream = "10.1.1.4"`))
			}
		default:
			u, err := upstream(n.text)
			if err != nil {
				d.fail(n, err)
				return
			}
			*to = []Upstream{u}
		}
	}}
}

// upstreamList is a list of upstreams, each named once.
func upstreamList(to *[]Upstream) value {
	const typ = "upstreams"
	return value{"list of " + typ, func(d *decoder, n *node) {
		var all []Upstream
		d.each(n, typ, func(s string) error {
			u, err := upstream(s)
			switch {
			case err != nil:
				return err
			case slices.Contains(all, u):
				return fmt.Errorf("%s is named twice", quote(s))
			}
			all = append(all, u)
			return nil
		})
		*to = all
	}}
}

// String is u as an operator writes it, without the port where it is the
// scheme's own: "10.1.1.4", "https://app.lan:8443", "unix//run/app.sock".
func (u Upstream) String() string {
	if u.Scheme == "unix" {
		return "unix/" + u.Address
	}
	address := u.Address
	if host, port, err := net.SplitHostPort(address); err == nil && port == schemePort(u.Scheme) {
		address = host
	}
	if u.Scheme == "http" {
		return address
	}
	if strings.Contains(address, ":") && !strings.Contains(address, "]") && address != u.Address {
		address = "[" + address + "]" // as in every URL
	}
	return u.Scheme + "://" + address
}

// schemePort returns the port of an upstream that names none, "" for a scheme that
// upstreams do not have.
func schemePort(scheme string) string {
	switch scheme {
	case "http", "h2c":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

// unixPath returns what follows unix/, unix: or unix:// in s.
func unixPath(s string) (path string, ok bool) {
	if rest, ok := strings.CutPrefix(s, "unix://"); ok {
		return rest, true
	}
	if rest, ok := strings.CutPrefix(s, "unix:"); ok {
		return rest, true
	}
	return strings.CutPrefix(s, "unix/")
}

// hostPort returns s as host:port with the port filled in. low is the smallest
// port that makes sense.
func hostPort(s, port string, low uint64) (string, error) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return net.JoinHostPort(ip.String(), port), nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s += ":" + port
	}
	host := s
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return "", fmt.Errorf(`%s is not host:port; an IPv6 address with a port is written "[::1]:8080"`, quote(s))
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n < low {
		return "", fmt.Errorf("%s: the port must be a number from %d to 65535", quote(s), low)
	}
	port = strconv.FormatUint(n, 10)
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() == strings.HasPrefix(s, "[") {
		return net.JoinHostPort(ip.String(), port), nil
	}
	// Names of machines and containers may hold underscores, which no public
	// host name does.
	name, err := dnsName(strings.ReplaceAll(host, "_", "0"))
	if err != nil {
		return "", fmt.Errorf("%s is neither an address nor a host name", quote(s))
	}
	if strings.Contains(host, "_") {
		name = strings.ToLower(host)
	}
	return net.JoinHostPort(name, port), nil
}

// listenAddress is host:port; the host may be empty, which is every interface.
func listenAddress(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf(`%s is not an address to listen on; write for example ":443" or "192.0.2.1:443"`, quote(s))
	}
	if host == "" {
		host = "localhost"
	}
	if _, err := hostPort(net.JoinHostPort(host, port), "", 0); err != nil || port == "" {
		return "", fmt.Errorf(`%s is not an address to listen on: the port must be a number up to 65535, the host an address of this machine or empty`, quote(s))
	}
	return s, nil
}

// resolver is a name server, port 53 unless given.
func resolver(s string) (string, error) { return hostPort(s, "53", 1) }

// trustedProxies is a list of networks, addresses and the two words.
func trustedProxies(to *TrustedProxies) value {
	const typ = "networks"
	return value{"list of " + typ, func(d *decoder, n *node) {
		var t TrustedProxies
		d.each(n, typ, func(s string) error {
			switch s {
			case "cloudflare":
				t.Cloudflare = true
			case "private":
				t.Private = true
			default:
				network, err := network(s)
				t.Networks = append(t.Networks, network)
				return err
			}
			return nil
		})
		*to = t
	}}
}

// bypassNetwork is a network of the operator's own.
func bypassNetwork(s string) (netip.Prefix, error) {
	p, err := network(s)
	switch {
	case !p.IsValid():
		return p, fmt.Errorf(`%s is not a network; write for example "192.168.1.0/24"`, quote(s))
	case err == nil && p.Bits() == 0:
		return p, fmt.Errorf("%s is everybody: no visitor would ever see the status page", quote(s))
	}
	return p, err
}

// network is a network, or an address alone.
func network(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		ip = ip.Unmap()
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, fmt.Errorf(`%s is not a network; write "cloudflare", "private", or for example "192.0.2.0/24"`, quote(s))
	case p != p.Masked():
		return p, fmt.Errorf("%s has bits set after its prefix; the network is %q", quote(s), p.Masked())
	}
	return p, nil
}

// noticeURL is where notices go. Its path may be a secret, so no message shows it.
func noticeURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.Fragment != "":
		return "", errors.New(`must be an http or https URL, such as "https://ntfy.sh/topic"`)
	case u.User != nil:
		return "", errors.New("must not hold a user or password")
	}
	return s, nil
}

// The ACME directories behind the words of acme.ca, from each authority's
// documentation.
const (
	letsEncrypt        = "https://acme-v02.api.letsencrypt.org/directory"
	letsEncryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"
	zeroSSL            = "https://acme.zerossl.com/v2/DV90"
)

// authority reads acme.ca.
func authority(s string) (string, error) {
	switch s {
	case "letsencrypt":
		return letsEncrypt, nil
	case "letsencrypt-staging":
		return letsEncryptStaging, nil
	case "zerossl":
		return zeroSSL, nil
	case "local":
		return CALocal, nil
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return "", errors.New(`must be "letsencrypt", "letsencrypt-staging", "zerossl", "local", or the https URL of an ACME directory`)
	case u.User != nil || u.Fragment != "":
		return "", errors.New("must be the directory's URL without user, password or fragment")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return "", errors.New("must be an https URL; plain http is for a CA on this machine only")
	}
	return u.String(), nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

func email(s string) (string, error) {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || !isASCII(s) {
		return "", fmt.Errorf("%s is not an e-mail address", quote(s))
	}
	return s, nil
}

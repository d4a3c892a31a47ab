package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Trusted knows which peers are believed when they say on whose behalf they ask. It is
// immutable; its zero value believes nobody.
type Trusted struct {
	networks   []netip.Prefix
	cloudflare []netip.Prefix
	private    bool
}

// TrustedOptions name the peers to believe.
type TrustedOptions struct {
	Cloudflare       bool           // Cloudflare's ranges, and their CF-Connecting-IP
	Private          bool           // loopback, RFC 1918, RFC 4193 and link-local addresses
	Networks         []netip.Prefix // others
	CloudflareRanges []netip.Prefix // used when Cloudflare is set; nil = the embedded list
}

// NewTrusted makes a Trusted.
func NewTrusted(o TrustedOptions) *Trusted {
	t := &Trusted{private: o.Private}
	for _, p := range o.Networks {
		t.networks = append(t.networks, p.Masked())
	}
	if o.Cloudflare {
		t.cloudflare = o.CloudflareRanges
		if t.cloudflare == nil {
			t.cloudflare = embeddedCloudflareRanges()
		}
	}
	return t
}

// origin is where a request comes from.
type origin struct {
	peer    netip.Addr // the other end of the connection; invalid when it is no IP socket
	client  netip.Addr // on whose behalf it asks; the peer itself if that is not believed
	trusted bool       // the peer is believed
}

// origin finds out who sent r. If the peer is believed, that is the right-most address
// of X-Forwarded-For that is not itself believed, as everything left of it was written
// by strangers. CF-Connecting-IP counts only if the peer is Cloudflare.
func (t *Trusted) origin(r *http.Request) origin {
	var o origin
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.peer = peer.Addr().Unmap().WithZone("")
	}
	o.client = o.peer
	fromCloudflare := contains(t.cloudflare, o.peer)
	if !fromCloudflare && !t.believes(o.peer) {
		return o
	}
	o.trusted = true
	if fromCloudflare {
		if v := r.Header["Cf-Connecting-Ip"]; len(v) == 1 {
			if client, ok := parseForwarded(v[0]); ok {
				o.client = client
				return o
			}
		}
	}
	o.client = t.rightmost(r.Header["X-Forwarded-For"], o.peer)
	return o
}

// rightmost goes through the hops in values from the right, which is the nearest, to the
// first that is not believed. At something that is no address it stops, and returns the
// hop before that.
func (t *Trusted) rightmost(values []string, nearest netip.Addr) netip.Addr {
	for _, rest := range slices.Backward(values) {
		for more := true; more; {
			hop := rest
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, hop = rest[:comma], rest[comma+1:]
			} else {
				more = false
			}
			addr, ok := parseForwarded(hop)
			if !ok {
				return nearest
			}
			nearest = addr
			if !t.believes(addr) && !contains(t.cloudflare, addr) {
				return nearest
			}
		}
	}
	return nearest
}

func (t *Trusted) believes(a netip.Addr) bool {
	if t.private && (a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()) {
		return true
	}
	return contains(t.networks, a)
}

// contains looks through a list that has some twenty entries at most.
func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, p := range networks {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// parseForwarded reads one hop as proxies write it: an address, also in
// brackets, with or without a port.
func parseForwarded(s string) (netip.Addr, bool) {
	s = strings.Trim(s, " \t")
	addr, err := netip.ParseAddr(s)
	if err != nil {
		if hop, err := netip.ParseAddrPort(s); err == nil {
			addr = hop.Addr()
		} else if n := len(s); n > 2 && s[0] == '[' && s[n-1] == ']' {
			addr, _ = netip.ParseAddr(s[1 : n-1])
		}
	}
	return addr.Unmap().WithZone(""), addr.IsValid()
}

// text is the client's address for logs and headers; "" = unknown. It is a part
// of remoteAddr, the request's, if that has it in the same form, as usual.
func (o origin) text(remoteAddr string) string {
	if !o.client.IsValid() {
		return ""
	}
	var longest [len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")]byte
	text := o.client.AppendTo(longest[:0])
	if addr := strings.TrimPrefix(remoteAddr, "["); strings.HasPrefix(addr, string(text)) {
		return addr[:len(text)]
	}
	return string(text)
}

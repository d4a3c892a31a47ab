package acme

import (
	"crypto/x509"
	"net"
	"slices"
	"strings"
)

// constraints are the name constraints (RFC 5280 section 4.2.1.10) of the local
// CA's intermediate: a stolen key cannot speak for other people's sites.
type constraints struct {
	dns []string // each with all below it; none = not constrained
	ips bool     // addresses are served too
}

// constrain computes what must be permitted to serve names.
func constrain(names []string) constraints {
	// The intermediate travels in every full handshake, so the list stays short;
	// with more names their parents are permitted instead.
	const most = 8
	var c constraints
	for _, name := range names {
		if net.ParseIP(name) != nil {
			c.ips = true
		} else {
			c.dns = append(c.dns, strings.TrimPrefix(name, "*."))
		}
	}
	c.dns = covering(c.dns)
	for len(c.dns) > most {
		parents := make([]string, len(c.dns))
		for i, name := range c.dns {
			parents[i] = name
			if _, parent, ok := strings.Cut(name, "."); ok && strings.Contains(parent, ".") {
				parents[i] = parent
			}
		}
		parents = covering(parents)
		if len(parents) == len(c.dns) {
			return constraints{ips: c.ips} // hundreds of unrelated domains
		}
		c.dns = parents
	}
	return c
}

// covering sorts names and drops those that lie below another one.
func covering(names []string) []string {
	names = slices.Clone(names)
	slices.Sort(names)
	names = slices.Compact(names)
	has := make(map[string]bool, len(names))
	for _, name := range names {
		has[name] = true
	}
	return slices.DeleteFunc(names, func(name string) bool {
		for _, parent, ok := strings.Cut(name, "."); ok; _, parent, ok = strings.Cut(parent, ".") {
			if has[parent] {
				return true
			}
		}
		return false
	})
}

func (c constraints) equal(d constraints) bool { return c.ips == d.ips && slices.Equal(c.dns, d.dns) }

func (c constraints) apply(template *x509.Certificate) {
	if len(c.dns) == 0 {
		return
	}
	template.PermittedDNSDomainsCritical = true
	template.PermittedDNSDomains = c.dns
	if !c.ips {
		template.ExcludedIPRanges = []*net.IPNet{
			{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
			{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
		}
	}
}

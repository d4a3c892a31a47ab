package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Table maps host names to Routes and carries what all requests of one configuration
// have in common. It is immutable, so a request that loaded it sees one configuration
// from its first decision to its last.
type Table struct {
	generation uint64
	routes     []*Route
	exact      map[string]*Route
	wildcard   map[string]*Route // "example.org" for "*.example.org"
	trusted    *Trusted
	port       string // ":8443" in redirects to https; "" = 443
	altSvc     []string
	bypass     []netip.Prefix
}

// TableOptions say what a Table is made of.
type TableOptions struct {
	Generation    uint64
	Routes        []*Route // not to be written to any more after NewTable
	Trusted       *Trusted // nil = nobody
	AdvertisePort int      // in Alt-Svc and in redirects to https; 0 = 443
	HTTP3         bool     // false = Alt-Svc: clear, so that clients forget an earlier offer

	// Bypass are the networks whose clients, as Trusted resolves them, are
	// proxied to hosts that are not online.
	Bypass []netip.Prefix
}

// NewTable makes a Table. The error says that two routes have the same name.
func NewTable(o TableOptions) (*Table, error) {
	t := &Table{
		generation: o.Generation,
		routes:     o.Routes,
		exact:      make(map[string]*Route),
		wildcard:   make(map[string]*Route),
		trusted:    o.Trusted,
		altSvc:     []string{"clear"},
		bypass:     o.Bypass,
	}
	if t.trusted == nil {
		t.trusted = NewTrusted(TrustedOptions{})
	}
	const https = 443
	port := cmp.Or(o.AdvertisePort, https)
	if port != https {
		t.port = ":" + strconv.Itoa(port)
	}
	if o.HTTP3 {
		// Thirty days: the offer is renewed with every answer, and "clear" takes it back.
		t.altSvc = []string{`h3=":` + strconv.Itoa(port) + `"; ma=2592000`}
	}
	for _, rt := range o.Routes {
		rt.compile()
		for _, name := range rt.Names {
			if err := t.add(name, rt); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

func (t *Table) add(name string, rt *Route) error {
	names, key := t.exact, name
	if parent, ok := strings.CutPrefix(name, "*."); ok {
		names, key = t.wildcard, parent
	}
	if other := names[key]; other != nil {
		return fmt.Errorf("host %s is served by %s and by %s", name, other.Host, rt.Host)
	}
	names[key] = rt
	return nil
}

// Lookup finds the Route of a canonical host name: the exact name, else the
// wildcard that covers its first label. nil = not served here.
func (t *Table) Lookup(name string) *Route {
	if rt := t.exact[name]; rt != nil {
		return rt
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return t.wildcard[parent]
	}
	return nil
}

// Generation is the number of the configuration the table was built from.
func (t *Table) Generation() uint64 { return t.generation }

package acme

import (
	"crypto/tls"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
)

// table is what handshakes see of a configuration. It is never written after
// Manage stored it; what it points to has its own guards.
type table struct {
	hosts  map[string]*host    // by canonical name, or "*.zone"
	orders map[string]*subject // by the name on the certificate
	pairs  map[pairFiles]*pair
}

// host is one served name and where its certificate comes from: own or order,
// never both.
type host struct {
	name    string
	own     *pair
	order   *subject
	standIn atomic.Pointer[tls.Certificate] // local certificate while there is no other
}

// lookup finds a host by canonical name, exactly or by a wildcard for the first
// label; nil = not served here.
func (t *table) lookup(name string) *host {
	if h := t.hosts[name]; h != nil {
		return h
	}
	if _, parent, ok := strings.Cut(name, "."); ok {
		return t.hosts["*."+parent]
	}
	return nil
}

// replaced makes the table of a new configuration. Whatever stays is the same
// object as before.
func (t *table) replaced(subjects []Subject, wildcardZones []string, log *slog.Logger) *table {
	next := &table{
		hosts:  make(map[string]*host, len(subjects)),
		orders: map[string]*subject{},
		pairs:  map[pairFiles]*pair{},
	}
	// A host that is itself a wildcard covers its neighbours as a zone's does.
	covers := slices.Clone(wildcardZones)
	for _, s := range subjects {
		for _, name := range s.Names {
			if zone, ok := strings.CutPrefix(name, "*."); ok && s.CertFile == "" {
				covers = append(covers, zone)
			}
		}
	}
	for _, s := range subjects {
		for _, name := range s.Names {
			h := &host{name: name}
			if s.CertFile != "" {
				h.own = next.pair(t, pairFiles{s.CertFile, s.KeyFile}, log)
			} else {
				h.order = next.subject(t, certificateName(name, covers))
			}
			if old := t.hosts[name]; old != nil && old.own == h.own && old.order == h.order {
				h = old
			}
			next.hosts[name] = h
		}
	}
	return next
}

func (t *table) subject(old *table, name string) *subject {
	if t.orders[name] == nil {
		t.orders[name] = old.orders[name]
	}
	if t.orders[name] == nil {
		t.orders[name] = &subject{name: name}
	}
	return t.orders[name]
}

func (t *table) pair(old *table, files pairFiles, log *slog.Logger) *pair {
	if t.pairs[files] == nil {
		t.pairs[files] = old.pairs[files]
	}
	if t.pairs[files] == nil {
		t.pairs[files] = &pair{files: files}
		t.pairs[files].reload(log)
	}
	return t.pairs[files]
}

// certificateName is the name on the certificate that serves name: *.zone when
// the zone has a wildcard and name lies exactly one label below, else name.
func certificateName(name string, zones []string) string {
	if _, parent, ok := strings.Cut(name, "."); ok && slices.Contains(zones, parent) {
		return "*." + parent
	}
	return name
}

// names lists the served names, sorted.
func (t *table) names() []string {
	names := make([]string, 0, len(t.hosts))
	for name := range t.hosts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

package acme

import (
	"crypto/x509"
	"slices"
	"strings"
	"time"
)

// State is how a host's certificate is.
type State string

// The states of a Certificate.
const (
	StateValid   State = "valid"   // from an authority
	StateOwn     State = "own"     // from the operator's files
	StateLocal   State = "local"   // from the local CA, as configured
	StatePending State = "pending" // the first one is being ordered; a local one answers
	StateFailing State = "failing" // there is none to be had; a local one answers
	StateExpired State = "expired" // served though it has expired
)

// Certificate is what a host answers a TLS handshake with.
type Certificate struct {
	Host     string    // canonical name, as in Subject.Names
	Names    []string  // on the certificate
	Issuer   string    // common or organisation name of who signed it
	NotAfter time.Time // zero when there is none
	State    State
	Error    string    // why the last order, renewal or reading failed; "" = it did not
	NextTry  time.Time // of the next order; zero = nothing failed, or now
}

// Status describes the certificate of every host, sorted by name.
func (m *Manager) Status() []Certificate {
	t := m.table.Load()
	unsaved := m.unsaved.Load()
	all := make([]Certificate, 0, len(t.hosts))
	for _, name := range t.names() {
		c := m.status(t.hosts[name])
		if c.Error == "" && t.hosts[name].own == nil && unsaved != nil {
			c.Error = *unsaved
		}
		all = append(all, c)
	}
	return all
}

func (m *Manager) status(h *host) Certificate {
	c := Certificate{Host: h.name}
	cert := m.current(h)
	stand := cert == nil
	if stand {
		cert, _ = m.standIn(h)
	}
	if cert != nil && cert.Leaf != nil {
		c.Names = cert.Leaf.DNSNames
		for _, ip := range cert.Leaf.IPAddresses {
			c.Names = append(slices.Clip(c.Names), ip.String())
		}
		c.Issuer = signerName(cert.Leaf)
		c.NotAfter = cert.Leaf.NotAfter
	}
	if h.own != nil {
		c.State, c.Error = StateOwn, h.own.trouble()
		switch {
		case stand:
			c.State = StateFailing
		case c.Error == "" && !Covers(cert.Leaf, h.name):
			c.Error = "the certificate " + h.own.files.cert + " is not for " + h.name
		}
	} else {
		c.Error, c.NextTry = h.order.last()
		switch {
		case m.localOnly():
			c.State = StateLocal
		case !stand:
			c.State = StateValid
		case c.Error != "":
			c.State = StateFailing
		default:
			c.State = StatePending
		}
	}
	if !stand && time.Now().After(c.NotAfter) {
		c.State = StateExpired
	}
	return c
}

// localOnly reports whether the local CA is what the operator asked for.
func (m *Manager) localOnly() bool {
	cfg := m.config.Load()
	return cfg != nil && len(cfg.Issuers) > 0 && cfg.Issuers[0].IssuerKey() == Local
}

// Covers reports whether leaf is for name, which may be a wildcard; a nil leaf is for none.
func Covers(leaf *x509.Certificate, name string) bool {
	if leaf == nil {
		return false
	}
	if strings.HasPrefix(name, "*.") {
		return slices.Contains(leaf.DNSNames, name)
	}
	return leaf.VerifyHostname(name) == nil
}

func signerName(leaf *x509.Certificate) string {
	name := leaf.Issuer.CommonName
	if len(leaf.Issuer.Organization) > 0 && !strings.Contains(name, leaf.Issuer.Organization[0]) {
		name = strings.TrimSpace(leaf.Issuer.Organization[0] + " " + name)
	}
	return name
}

package acme

import (
	"crypto/tls"
	"strings"

	"github.com/caddyserver/certmagic"
)

// GetCertificate is a tls.Config.GetCertificate. A host gets its own certificate
// or the one that was ordered, even when it has expired; until there is one, a
// certificate of the local CA. For a name that is not managed, and for clients
// that name none, it returns nil and no error: crypto/tls then answers with the
// alert unrecognized_name.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	h := m.table.Load().lookup(strings.ToLower(hello.ServerName))
	if h == nil {
		return nil, nil
	}
	if cert := m.current(h); cert != nil {
		return cert, nil
	}
	return m.standIn(h)
}

// current is the certificate of h that is not a stand-in; nil = none yet.
func (m *Manager) current(h *host) *tls.Certificate {
	if h.own != nil {
		return h.own.cert.Load()
	}
	return m.managed(h.order)
}

// managed is the certificate that certmagic keeps for s; nil = none.
func (m *Manager) managed(s *subject) *tls.Certificate {
	certs := m.cache.AllMatchingCertificates(s.name)
	if len(certs) == 0 {
		return nil
	}
	// More than one only for the moment in which a successor takes over.
	best := &certs[0]
	for i := range certs {
		if !certs[i].Expired() {
			best = &certs[i]
			break
		}
	}
	return &best.Certificate
}

// usable reports whether s has a certificate that visitors accept.
func (m *Manager) usable(s *subject) bool {
	cert := m.managed(s)
	return cert != nil && !(certmagic.Certificate{Certificate: *cert}).Expired()
}

func (m *Manager) standIn(h *host) (*tls.Certificate, error) {
	if cert := h.standIn.Load(); cert != nil && m.local.alive(cert.Leaf, m.local.leaf/3) {
		return cert, nil
	}
	cert, err := m.local.standIn(h.name)
	if err != nil {
		return nil, err
	}
	h.standIn.Store(cert)
	return cert, nil
}

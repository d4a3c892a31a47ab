package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3/acme"
)

// configure builds the certmagic configuration for s. It cannot fail: an issuer
// whose files cannot be read becomes one that says so when it is asked.
func (m *Manager) configure(s Settings) *certmagic.Config {
	local := true
	for _, i := range s.Issuers {
		local = local && i.CA == Local
	}
	cfg := certmagic.New(m.cache, certmagic.Config{
		Storage:            m.storage,
		Logger:             m.zap,
		OnEvent:            m.event,
		ShouldEmitFunc:     func(event string) bool { return event != "tls_get_certificate" }, // once a handshake
		OCSP:               certmagic.OCSPConfig{DisableStapling: true},                       // Let's Encrypt has no OCSP any more
		KeySource:          certmagic.StandardKeyGenerator{KeyType: certmagic.P256},
		RenewalWindowRatio: certmagic.DefaultRenewalWindowRatio,
		DisableARI:         s.DisableARI || local,
		Issuers:            []certmagic.Issuer{}, // nil would mean certmagic's default
	})
	for _, i := range s.Issuers {
		cfg.Issuers = append(cfg.Issuers, m.issuer(cfg, i))
	}
	return cfg
}

// issuer must return a plain *certmagic.ACMEIssuer for ACME: certmagic looks
// for that type when it marks a renewal as the successor of a certificate.
func (m *Manager) issuer(cfg *certmagic.Config, i Issuer) certmagic.Issuer {
	if i.CA == Local {
		return m.local
	}
	template := certmagic.ACMEIssuer{
		CA:                      i.CA,
		Email:                   i.Email,
		Agreed:                  true,
		Logger:                  m.zap,
		DNS01Solver:             m.dns,
		DisableHTTPChallenge:    true,
		DisableTLSALPNChallenge: true,
	}
	var err error
	if i.Roots != "" {
		template.TrustedRoots, err = readRoots(i.Roots)
	}
	if err == nil && i.EABKeyID != "" {
		template.ExternalAccount = &acme.EAB{KeyID: i.EABKeyID}
		template.ExternalAccount.MACKey, err = eabKey(i.EABKeyFile)
	}
	if err != nil {
		return brokenIssuer{key: template.IssuerKey(), err: err}
	}
	iss := certmagic.NewACMEIssuer(cfg, template)
	// Without this, a retry asks Let's Encrypt's staging first and gives up for
	// good when production then fails.
	iss.TestCA = ""
	return iss
}

// brokenIssuer stands for an issuer whose files cannot be read.
type brokenIssuer struct {
	key string
	err error
}

func (b brokenIssuer) IssuerKey() string { return b.key }

func (b brokenIssuer) Issue(context.Context, *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	return nil, b.err
}

func (m *Manager) brokenIssuer() bool {
	for _, i := range m.config.Load().Issuers {
		if _, broken := i.(brokenIssuer); broken {
			return true
		}
	}
	return false
}

// readRoots reads the PEM file of a private authority's roots.
func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the authority's root: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read the authority's root: no PEM certificate in %s", file)
	}
	return pool, nil
}

// issuerLabel names an authority as an operator would.
func issuerLabel(key string) string {
	for ca, label := range map[string]string{
		certmagic.LetsEncryptProductionCA: "letsencrypt",
		certmagic.LetsEncryptStagingCA:    "letsencrypt-staging",
		certmagic.ZeroSSLProductionCA:     "zerossl",
	} {
		if key == (&certmagic.ACMEIssuer{CA: ca}).IssuerKey() {
			return label
		}
	}
	return key
}

// dropTornCertificate removes what a crash or a bad disk left behind: a
// certificate beside the key of its successor, or with a damaged file, cannot be
// used, and certmagic would neither serve nor replace it. So it is with one of the local CA that a
// clock which was ahead has made.
func (m *Manager) dropTornCertificate(ctx context.Context, cfg *certmagic.Config, name string) {
	for _, iss := range cfg.Issuers {
		key := iss.IssuerKey()
		cert, err := m.storage.Load(ctx, certmagic.StorageKeys.SiteCert(key, name))
		if err != nil {
			continue // absent, or unreadable: certmagic says which
		}
		private, err := m.storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, name))
		if err != nil {
			continue
		}
		pair, err := tls.X509KeyPair(cert, private)
		if err == nil && key == Local && m.local.now().Before(pair.Leaf.NotBefore) {
			err = errors.New("it is not valid yet")
		}
		if meta, absent := m.storage.Load(ctx, certmagic.StorageKeys.SiteMeta(key, name)); err == nil && absent == nil {
			if err = json.Unmarshal(meta, new(certmagic.CertificateResource)); err != nil {
				err = fmt.Errorf("what is noted beside it: %w", err)
			}
		}
		if err == nil {
			continue
		}
		m.log.Warn("stored certificate cannot be used, ordering it anew", "name", name, "issuer", issuerLabel(key), "error", err)
		err = errors.Join(
			m.storage.Delete(ctx, certmagic.StorageKeys.SiteCert(key, name)),
			m.storage.Delete(ctx, certmagic.StorageKeys.SitePrivateKey(key, name)),
			m.storage.Delete(ctx, certmagic.StorageKeys.SiteMeta(key, name)))
		if err != nil {
			m.log.Error("useless certificate not removed", "name", name, "error", err)
		}
	}
}

package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"slices"

	"detour/acme"
	"detour/config"
)

// CheckCertificates says which hosts' own certificates are not for all of their
// names. That is no mistake of the file: a proxy in front may not look at them.
func CheckCertificates(cfg *config.Config) []string {
	var foreign []string
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		if h.CertFile == "" {
			continue
		}
		pair, err := tls.LoadX509KeyPair(h.CertFile, h.KeyFile)
		for _, name := range h.Names() {
			if err == nil && !acme.Covers(pair.Leaf, name) {
				foreign = append(foreign, fmt.Sprintf("line %d: the certificate %s is not for %s", h.Line, h.CertFile, name))
			}
		}
	}
	return foreign
}

// ErrUnasked is in CheckOnline's error when Cloudflare gave no answer about the
// token.
var ErrUnasked = acme.ErrUnasked

// CheckOnline asks Cloudflare whether the configured token can do what the
// configured certificates need. It changes nothing there. Its error has a line
// for each finding.
func CheckOnline(ctx context.Context, cfg *config.Config) error {
	if !needsToken(cfg) {
		return nil
	}
	token, err := acme.TokenSource(cfg.ACME.TokenFile)()
	if err != nil {
		return err
	}
	var names []string
	for i := range cfg.Hosts {
		if cfg.Hosts[i].CertFile == "" {
			names = append(names, cfg.Hosts[i].Names()...)
		}
	}
	return acme.CheckToken(ctx, token, os.Getenv(cloudflareBaseURL), names)
}

// needsToken reports whether any certificate comes from an ACME authority.
func needsToken(cfg *config.Config) bool {
	if cfg.ACME.CA == config.CALocal {
		return false
	}
	return slices.ContainsFunc(cfg.Hosts, func(h config.Host) bool { return h.CertFile == "" })
}

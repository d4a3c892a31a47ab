package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"detour/acme"
	"detour/config"
	"detour/control"
	"detour/proxy"
)

// cloudflareBaseURL is the environment variable that points the Cloudflare
// clients at another API, as cloudflare's own tools name it.
const cloudflareBaseURL = "CLOUDFLARE_BASE_URL"

// Cloudflare changes its ranges a few times a decade and announces it weeks
// ahead; a day is often enough, and a failure only means the known list stays.
const refreshInterval = 24 * time.Hour

// refreshCloudflareRanges keeps the list behind trusted_proxies =
// ["cloudflare"] current while the configuration uses it.
func (g *Gateway) refreshCloudflareRanges(ctx context.Context) {
	client := &http.Client{Timeout: 20 * time.Second}
	tick := time.NewTicker(refreshInterval)
	defer tick.Stop()
	for {
		if g.current.Load().config.Listen.TrustedProxies.Cloudflare {
			ranges, err := proxy.FetchCloudflareRanges(ctx, client, os.Getenv(cloudflareBaseURL))
			switch {
			case err == nil:
				g.useCloudflareRanges(ranges)
			case ctx.Err() == nil:
				g.log.Info("Cloudflare's address ranges stay as they are known", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// useCloudflareRanges builds the table in force again around the new list.
func (g *Gateway) useCloudflareRanges(ranges []netip.Prefix) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if known := g.cloudflareRanges.Load(); known != nil && slices.Equal(*known, ranges) {
		return
	}
	if g.stopping {
		return
	}
	g.cloudflareRanges.Store(&ranges)
	old := g.current.Load()
	next, err := g.prepare(old.config, old)
	if err != nil {
		g.log.Warn("Cloudflare's new address ranges wait for the next reload", "error", err)
		return
	}
	next.options.Generation, next.applied = old.table.Generation(), old.applied // it is the same configuration
	g.swap(old, next, control.ReloadOptions{})
	g.log.Info("Cloudflare's address ranges refreshed", "ranges", len(ranges))
}

// CheckOnline asks Cloudflare whether the configured token can do what the
// configured certificates need. It changes nothing there.
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

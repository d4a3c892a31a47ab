package gateway

import (
	"context"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

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
				g.untilEnd(func() { g.useCloudflareRanges(ranges) })
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
	g.reading.Lock()
	defer g.reading.Unlock()
	if known := g.cloudflareRanges.Load(); known != nil && slices.Equal(*known, ranges) {
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
	if !g.swap(next, control.ReloadOptions{}) {
		return
	}
	g.log.Info("Cloudflare's address ranges refreshed", "ranges", len(ranges))
}

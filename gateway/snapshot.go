package gateway

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"detour/acme"
	"detour/config"
	"detour/logging"
	"detour/proxy"
)

// snapshot is one configuration and what was built from it. It is never
// written after it was stored.
type snapshot struct {
	config    *config.Config
	table     *proxy.Table
	upstreams map[proxy.UpstreamOptions]*proxy.Upstream
	stats     map[string]*proxy.Stats // by host
	unowned   *logging.Sink           // requests for hosts that are not configured
	applied   time.Time               // when it took effect
}

// prepare builds what cfg asks for and does all of it that can fail. Nothing
// is dialled and nothing of old is touched: upstream connections and counters
// that cfg still wants pass over to the new snapshot. old is nil at the start.
func (g *Gateway) prepare(cfg *config.Config, old *snapshot) (*snapshot, error) {
	next := &snapshot{
		config:    cfg,
		upstreams: make(map[proxy.UpstreamOptions]*proxy.Upstream),
		stats:     make(map[string]*proxy.Stats),
	}
	generation := uint64(1)
	if old != nil {
		generation = old.table.Generation() + 1
	}
	routes := make([]*proxy.Route, 0, len(cfg.Hosts))
	for i := range cfg.Hosts {
		route, err := g.route(cfg, &cfg.Hosts[i], next, old)
		if err != nil {
			return nil, fmt.Errorf("hosts.%s: %w", cfg.Hosts[i].Key, err)
		}
		routes = append(routes, route)
	}
	table, err := proxy.NewTable(proxy.TableOptions{
		Generation:    generation,
		Routes:        routes,
		Trusted:       g.trusted(cfg),
		AdvertisePort: cfg.Listen.AdvertisePort,
		HTTP3:         cfg.Listen.HTTP3,
	})
	if err != nil {
		return nil, err
	}
	next.table = table
	next.unowned = g.files.Sink(unownedSink(cfg))
	return next, nil
}

// route compiles one host's entry, taking its upstream and counters from old
// when they are the same, and from next when a host before it made them.
func (g *Gateway) route(cfg *config.Config, h *config.Host, next, old *snapshot) (*proxy.Route, error) {
	page, err := proxy.ParseStatusPage(h.StatusPage)
	if err != nil {
		return nil, err
	}
	upstream, err := findUpstream(h, next, old)
	if err != nil {
		return nil, err
	}
	stats := new(proxy.Stats)
	if old != nil && old.stats[h.Name] != nil {
		stats = old.stats[h.Name]
	}
	next.stats[h.Name] = stats

	route := &proxy.Route{
		Host:       h.Name,
		Names:      h.Names(),
		Online:     h.Online,
		StatusPage: page,
		Answer:     proxy.Answer(h.Answer),
		RetryAfter: cfg.Offline.RetryAfter,
		Upstream:   upstream,
		Compress:   h.Compress,
		MaxBody:    h.MaxBody,
		Stats:      stats,
	}
	for _, header := range h.Headers {
		route.Headers = append(route.Headers, proxy.HeaderEdit(header))
	}
	if h.Log {
		route.Log = g.files.Sink(hostSink(cfg, h))
	}
	return route, nil
}

// findUpstream finds or makes the upstream of h. Hosts with equal options share
// one, and so its connections.
func findUpstream(h *config.Host, next, old *snapshot) (*proxy.Upstream, error) {
	options := proxy.UpstreamOptions{
		Scheme:          h.Upstream.Scheme,
		Address:         h.Upstream.Address,
		ServerName:      h.UpstreamTLS.ServerName,
		Insecure:        h.UpstreamTLS.Insecure,
		ResponseTimeout: h.ResponseTimeout,
	}
	if h.UpstreamTLS.CA != "" {
		// The content is the key, not the path: a replaced file is noticed.
		pem, err := os.ReadFile(h.UpstreamTLS.CA)
		if err != nil {
			return nil, fmt.Errorf("upstream_tls.ca: %w", err)
		}
		options.RootsPEM = string(pem)
	}
	made := next.upstreams[options]
	if made == nil && old != nil {
		made = old.upstreams[options]
	}
	if made == nil {
		var err error
		if made, err = proxy.NewUpstream(options, nil); err != nil {
			return nil, err
		}
	}
	next.upstreams[options] = made
	return made, nil
}

// trusted translates the peers that may name a client.
func (g *Gateway) trusted(cfg *config.Config) *proxy.Trusted {
	t := cfg.Listen.TrustedProxies
	o := proxy.TrustedOptions{Cloudflare: t.Cloudflare, Private: t.Private, Networks: t.Networks}
	if fetched := g.cloudflareRanges.Load(); fetched != nil {
		o.CloudflareRanges = *fetched
	}
	return proxy.NewTrusted(o)
}

// manage tells the certificate manager what cfg wants.
func (g *Gateway) manage(cfg *config.Config) {
	settings := acme.Settings{
		Issuers:   []acme.Issuer{issuer(cfg.ACME.Issuer)},
		Token:     acme.TokenSource(cfg.ACME.TokenFile),
		Resolvers: cfg.ACME.Resolvers,
	}
	if cfg.ACME.Fallback != nil {
		settings.Issuers = append(settings.Issuers, issuer(*cfg.ACME.Fallback))
	}
	subjects := make([]acme.Subject, 0, len(cfg.Hosts))
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		subjects = append(subjects, acme.Subject{Names: h.Names(), CertFile: h.CertFile, KeyFile: h.KeyFile})
	}
	var wildcards []string
	if cfg.ACME.Certificates == config.Wildcard && cfg.Domain != "" {
		wildcards = []string{cfg.Domain}
	}
	g.manager.Manage(settings, subjects, wildcards)
}

func issuer(i config.Issuer) acme.Issuer {
	return acme.Issuer{CA: i.CA, Roots: i.CARoot, Email: i.Email, EABKeyID: i.EABKeyID, EABKeyFile: i.EABKeyFile}
}

// hostSink is where the access log of h goes: one file a host, by its key.
func hostSink(cfg *config.Config, h *config.Host) logging.SinkOptions {
	name := h.Key
	if strings.ContainsAny(name, "@*") { // "@" is the domain itself, "*" stands for every name
		name = strings.Replace(h.Name, "*", "_wildcard", 1)
	}
	return sink(cfg, name, name)
}

// unownedSink takes the requests that no host owns. No host can have this
// name: an underscore is not valid at the start of one.
func unownedSink(cfg *config.Config) logging.SinkOptions {
	return sink(cfg, "_gateway", "")
}

func sink(cfg *config.Config, file, name string) logging.SinkOptions {
	return logging.SinkOptions{
		Path: filepath.Join(cfg.Log.Dir, file+".log"),
		Name: name,
		Rotation: logging.Rotation{
			MaxSize:  cfg.Log.MaxSize,
			Keep:     cfg.Log.Keep,
			MaxAge:   cfg.Log.MaxAge,
			Compress: cfg.Log.Compress,
			Mode:     fs.FileMode(cfg.Log.Mode),
		},
		RedactQuery: slices.Clone(cfg.Log.RedactQuery),
	}
}

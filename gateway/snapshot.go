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
	"detour/state"
)

// snapshot is one configuration, what was built from it, and the state its
// hosts are in. It is never written after it was stored.
type snapshot struct {
	config    *config.Config
	options   proxy.TableOptions // of table, with all hosts online
	upstreams map[proxy.UpstreamOptions]*proxy.Upstream
	pools     map[string]*proxy.Pool  // by host
	stats     map[string]*proxy.Stats // by host
	plans     map[string][]state.Plan // by host
	unowned   *logging.Sink           // requests for hosts that are not configured

	conditions map[string]condition // by host; nil until in
	table      *proxy.Table         // nil until in
	applied    time.Time            // when the configuration took effect
}

// prepare builds what cfg asks for, and does everything about it that can fail.
// Nothing is dialled and nothing of old is touched: upstream connections and
// counters that cfg still wants are shared with the new snapshot. old is nil at the
// start. Which hosts are online is still missing: in adds it.
func (g *Gateway) prepare(cfg *config.Config, old *snapshot) (*snapshot, error) {
	plans, err := plans(cfg)
	if err != nil {
		return nil, err
	}
	next := &snapshot{
		config:    cfg,
		upstreams: make(map[proxy.UpstreamOptions]*proxy.Upstream),
		pools:     make(map[string]*proxy.Pool),
		stats:     make(map[string]*proxy.Stats),
		plans:     plans,
		applied:   time.Now(),
	}
	next.options = proxy.TableOptions{
		Generation:    1,
		Trusted:       g.trusted(cfg),
		AdvertisePort: g.advertisedPort(cfg),
		HTTP3:         g.boot.Listen.HTTP3,
		Bypass:        cfg.Bypass.Networks,
	}
	if old != nil {
		next.options.Generation = old.table.Generation() + 1
	}
	for i := range cfg.Hosts {
		route, err := g.route(cfg, &cfg.Hosts[i], next, old)
		if err != nil {
			return nil, fmt.Errorf("hosts.%s: %w", cfg.Hosts[i].Key, err)
		}
		next.options.Routes = append(next.options.Routes, route)
	}
	if _, err := proxy.NewTable(next.options); err != nil {
		return nil, err
	}
	// Last, because a file takes on the rotation it is given here.
	for i, rt := range next.options.Routes {
		if h := &cfg.Hosts[i]; h.Log {
			rt.Log = g.files.Sink(hostSink(cfg, h))
		}
	}
	next.unowned = g.files.Sink(unownedSink(cfg))
	return next, nil
}

// in is the same configuration with its hosts in the given conditions, and of the
// same generation.
func (s *snapshot) in(conditions map[string]condition) *snapshot {
	next := *s
	next.conditions = conditions
	o := s.options
	o.Routes = make([]*proxy.Route, len(s.options.Routes))
	for i, online := range s.options.Routes {
		rt := *online
		c := conditions[rt.Host]
		rt.Online = c.Serving == state.Online
		rt.Draining = c.Serving == state.Draining
		rt.Since, rt.Until = c.since, c.Until
		rt.Cause, rt.Reason = string(c.Cause), c.Reason
		o.Routes[i] = &rt
	}
	next.table, _ = proxy.NewTable(o) // prepare found the names to be good
	return &next
}

// advertisedPort is the port that visitors are told. A changed listen.https waits
// for a restart, and so does the port that goes with it.
func (g *Gateway) advertisedPort(cfg *config.Config) int {
	if cfg.Listen.HTTPS != g.boot.Listen.HTTPS {
		return g.boot.Listen.AdvertisePort
	}
	return cfg.Listen.AdvertisePort
}

// route compiles one host's entry, as if it were online. It takes upstreams and
// counters from old if they are the same, and from next if an earlier host made
// them.
func (g *Gateway) route(cfg *config.Config, h *config.Host, next, old *snapshot) (*proxy.Route, error) {
	page, err := proxy.ParseStatusPage(h.StatusPage)
	if err != nil {
		return nil, err
	}
	pool, err := g.findPool(h, next, old)
	if err != nil {
		return nil, err
	}
	stats := new(proxy.Stats)
	if old != nil && old.stats[h.Name] != nil {
		stats = old.stats[h.Name]
	}
	next.stats[h.Name] = stats

	route := &proxy.Route{
		Host:          h.Name,
		Names:         h.Names(),
		StatusPage:    page,
		RedirectAll:   h.Answer == config.Redirect,
		RetryAfter:    cfg.Offline.RetryAfter,
		Pool:          pool,
		Compress:      h.Compress,
		MaxBody:       h.MaxBody,
		Stats:         stats,
		Session:       proxy.NewSession(proxy.SessionSigns(h.Session)),
		Hold:          h.Hold,
		PassiveStatus: h.Health != nil && h.Health.PassiveStatus,
	}
	for _, header := range h.Headers {
		route.Headers = append(route.Headers, proxy.HeaderEdit(header))
	}
	return route, nil
}

// findPool finds or makes the upstreams of h. While they are the same as before, so
// is the pool, and with it what is known of their health.
func (g *Gateway) findPool(h *config.Host, next, old *snapshot) (*proxy.Pool, error) {
	var lists [2][]*proxy.Upstream
	for i, addresses := range [2][]config.Upstream{h.Upstreams, h.Standby} {
		for _, address := range addresses {
			u, err := g.findUpstream(h, address, next, old)
			if err != nil {
				return nil, err
			}
			lists[i] = append(lists[i], u)
		}
	}
	pool := proxy.NewPool(lists[0], lists[1])
	if old != nil && old.pools[h.Name] != nil && samePool(old.pools[h.Name], pool) {
		pool = old.pools[h.Name]
	}
	next.pools[h.Name] = pool
	return pool, nil
}

func samePool(a, b *proxy.Pool) bool {
	return slices.EqualFunc(a.Members(), b.Members(), func(a, b *proxy.Member) bool {
		return a.Upstream == b.Upstream && a.Standby == b.Standby
	})
}

// findUpstream finds or makes one upstream of h. Hosts with equal options share
// one, and so its connections.
func (g *Gateway) findUpstream(h *config.Host, address config.Upstream, next, old *snapshot) (*proxy.Upstream, error) {
	options := proxy.UpstreamOptions{
		Scheme:          address.Scheme,
		Address:         address.Address,
		ServerName:      h.UpstreamTLS.ServerName,
		Insecure:        h.UpstreamTLS.Insecure,
		ResponseTimeout: h.ResponseTimeout,
		Engine:          g.boot.Listen.Engine == config.Detour,
		Memory:          g.memory,
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

// plans are the maintenances of cfg by host.
func plans(cfg *config.Config) (map[string][]state.Plan, error) {
	plans := make(map[string][]state.Plan)
	for i := range cfg.Maintenance {
		m := &cfg.Maintenance[i]
		for _, host := range m.Hosts {
			plan, err := m.Plan(host, cfg.TimeZone)
			if err != nil {
				return nil, err
			}
			plans[host] = append(plans[host], plan)
		}
	}
	return plans, nil
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

// unownedSink takes requests for unknown hosts. No host can have this file's name:
// none begins with an underscore.
func unownedSink(cfg *config.Config) logging.SinkOptions {
	o := sink(cfg, "_gateway", "")
	o.Early = true // one is enough to find that the directory cannot be written
	return o
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
		RedactQuery: append(slices.Clone(cfg.Log.RedactQuery), proxy.BypassParameter),
	}
}

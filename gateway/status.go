package gateway

import (
	"net"
	"os"
	"slices"
	"time"

	"detour/config"
	"detour/control"
	"detour/state"
)

// Gateway is the control socket's Switchboard.
var _ control.Switchboard = (*Gateway)(nil)

// Status describes the gateway at this moment.
func (g *Gateway) Status() control.Status {
	snap := g.current.Load()
	certificates := g.certificates()
	now := time.Now()
	status := control.Status{
		Version:    g.options.Version,
		PID:        os.Getpid(),
		Started:    byNow(g.started, now),
		Config:     g.options.Config,
		Generation: snap.table.Generation(),
		Reloaded:   byNow(snap.applied, now),
		Listeners:  g.listeners.describe(),
		Hosts:      make([]control.Host, 0, len(snap.config.Hosts)),
		Logs:       g.logStatus(snap.config.Log.Dir),
	}
	status.Restart = needRestart(g.boot, snap.config)
	if problems := g.refused.Load(); problems != nil {
		status.Problems = *problems
	}
	for i := range snap.config.Hosts {
		h := &snap.config.Hosts[i]
		host := g.hostStatus(snap, h, now)
		host.Certificate = certificates[h.Name]
		for _, alias := range h.Aliases {
			if c := certificates[alias]; c != nil && !(host.Certificate != nil && slices.Equal(c.Names, host.Certificate.Names)) {
				host.AliasCertificates = append(host.AliasCertificates, *c)
			}
		}
		status.Hosts = append(status.Hosts, host)
	}
	return status
}

// byNow is when t was by the clock as it is now, which may have been set since.
func byNow(t, now time.Time) time.Time {
	if set := now.Round(0).Sub(t.Round(0)) - now.Sub(t); set.Abs() > time.Second {
		return now.Add(t.Sub(now))
	}
	return t // the same each time it is asked for
}

func (g *Gateway) hostStatus(snap *snapshot, h *config.Host, now time.Time) control.Host {
	c, stats := snap.conditions[h.Name], snap.stats[h.Name]
	host := control.Host{
		Host:       h.Name,
		Key:        h.Key,
		Aliases:    h.Aliases,
		State:      c.Serving.String(),
		Cause:      string(c.Cause),
		Until:      c.Until,
		DrainUntil: c.DrainUntil,
		Reason:     c.Reason,
		Next:       nextWindow(snap.plans[h.Name], now),
		StatusPage: h.StatusPage,
		Upstream:   h.Upstreams[0].String(),
		InFlight:   stats.InFlight.Load(),
		Bypassed:   stats.Bypassed.Load(),
		Streams:    stats.Streams.Load(),
		Requests:   stats.Requests.Load(),
	}
	host.LastError, host.LastErrorAt = stats.LastError()
	host.LastErrorAt = byNow(host.LastErrorAt, now)
	if c.Serving == state.Draining {
		host.Sessions = int64(stats.Sessions.Load() - c.before)
	}
	if h.Health != nil {
		host.Health = g.keeper.health(snap, h).String()
	}
	addresses := slices.Concat(h.Upstreams, h.Standby)
	for i, m := range snap.pools[h.Name].Members() {
		u := control.Upstream{Address: addresses[i].String(), Standby: m.Standby, InFlight: m.InFlight()}
		if h.Health != nil {
			u.Health = g.keeper.memberHealth(h, m).String()
		}
		host.Upstreams = append(host.Upstreams, u)
	}
	return host
}

// nextWindow is the first window of plans that has not begun; nil = none.
func nextWindow(plans []state.Plan, now time.Time) *control.Window {
	var next *control.Window
	for _, plan := range plans {
		w, ok := plan.Near(now)
		for ok && !w.Begin().After(now) { // in force, or in its drain
			if plan.Cron == nil {
				ok = false
				break
			}
			w, ok = plan.Near(w.Until)
		}
		if ok && (next == nil || w.Begin().Before(next.Begin)) {
			next = &control.Window{Begin: w.Begin(), From: w.From, Until: w.Until, Reason: w.Reason}
		}
	}
	return next
}

// certificates are the certificates' states by the host they serve.
func (g *Gateway) certificates() map[string]*control.Certificate {
	byHost := make(map[string]*control.Certificate)
	for _, c := range g.manager.Status() {
		byHost[c.Host] = &control.Certificate{
			Names:    c.Names,
			Issuer:   c.Issuer,
			NotAfter: c.NotAfter,
			State:    string(c.State),
			Error:    c.Error,
			NextTry:  c.NextTry,
		}
	}
	return byHost
}

func (g *Gateway) logStatus(dir string) control.Logs {
	stats := g.files.Stats()
	logs := control.Logs{Dir: dir, Written: stats.Written, Dropped: stats.Dropped}
	for _, f := range stats.Files {
		if f.Err != nil {
			logs.Error = f.Err.Error()
			break
		}
	}
	return logs
}

// RetryCertificates orders failing certificates again now; no names means all.
func (g *Gateway) RetryCertificates(names ...string) { g.manager.Retry(names...) }

// LocalRoot is the local CA's root certificate in PEM.
func (g *Gateway) LocalRoot() ([]byte, error) { return g.manager.LocalRoot() }

// HTTPSAddr is where HTTP/1.1 and 2 are served over TLS; HTTP/3 has the same
// address in UDP.
func (g *Gateway) HTTPSAddr() net.Addr { return g.listeners.https.Addr() }

// HTTPAddr is where requests are redirected to https; nil when that is off.
func (g *Gateway) HTTPAddr() net.Addr {
	if g.listeners.http == nil {
		return nil
	}
	return g.listeners.http.Addr()
}

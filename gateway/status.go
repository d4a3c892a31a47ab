package gateway

import (
	"errors"
	"net"
	"os"
	"time"

	"detour/config"
	"detour/control"
)

// Gateway is the control socket's Switchboard.
var _ control.Switchboard = (*Gateway)(nil)

// Status describes the gateway at this moment.
func (g *Gateway) Status() control.Status {
	snap := g.current.Load()
	certificates := g.certificates()
	status := control.Status{
		Version:    g.options.Version,
		PID:        os.Getpid(),
		Started:    g.started,
		Config:     g.options.Config,
		Generation: snap.table.Generation(),
		Reloaded:   snap.applied,
		Listeners:  g.listeners.describe(),
		Hosts:      make([]control.Host, 0, len(snap.config.Hosts)),
		Logs:       g.logStatus(snap.config.Log.Dir),
	}
	if problems := g.refused.Load(); problems != nil {
		status.Problems = *problems
	}
	for i := range snap.config.Hosts {
		h := &snap.config.Hosts[i]
		host := hostStatus(h)
		stats := snap.stats[h.Name]
		host.InFlight = stats.InFlight.Load()
		host.Requests = stats.Requests.Load()
		host.LastError, host.LastErrorAt = stats.LastError()
		host.Certificate = certificates[h.Name]
		status.Hosts = append(status.Hosts, host)
	}
	return status
}

func hostStatus(h *config.Host) control.Host {
	state := "offline"
	if h.Online {
		state = "online"
	}
	return control.Host{
		Host:       h.Name,
		Key:        h.Key,
		Aliases:    h.Aliases,
		State:      state,
		Upstream:   upstreamText(h.Upstream),
		StatusPage: h.StatusPage,
	}
}

// upstreamText writes an upstream as an operator would in the file.
func upstreamText(u config.Upstream) string {
	switch u.Scheme {
	case "http":
		return u.Address
	case "unix":
		return "unix/" + u.Address
	default:
		return u.Scheme + "://" + u.Address
	}
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

// Bypass makes a link to the upstream of an offline host.
func (g *Gateway) Bypass(string, time.Duration) (string, error) {
	return "", errors.New("this gateway cannot make bypass links yet")
}

// Explain says what the gateway would do with a request.
func (g *Gateway) Explain(control.ExplainRequest) (control.Explanation, error) {
	return control.Explanation{}, errors.New("this gateway cannot explain requests yet")
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

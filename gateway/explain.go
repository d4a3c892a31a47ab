package gateway

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"

	"detour/config"
	"detour/control"
)

// Explain says what the gateway would do with a request at this moment, and
// why: the proxy decides it as it decides requests, and the configuration says
// where that is written.
func (g *Gateway) Explain(q control.ExplainRequest) (control.Explanation, error) {
	r, err := explained(q)
	if err != nil {
		return control.Explanation{}, err
	}
	snap := g.current.Load()
	e := g.handler.Explain(r, r.URL.Scheme == "https")
	is := control.Explanation{
		Host:     e.Host,
		State:    e.State,
		Cause:    e.Cause,
		Until:    e.Until,
		Reason:   e.Reason,
		Kind:     e.Kind,
		Action:   e.Action,
		Why:      e.Why,
		Status:   e.Status,
		Upstream: e.Upstream,
		Header:   make(http.Header),
	}
	if e.Location != "" {
		is.Header.Set("Location", e.Location)
	}
	if e.RetryAfter != "" {
		is.Header.Set("Retry-After", e.RetryAfter)
	}
	i := slices.IndexFunc(snap.config.Hosts, func(h config.Host) bool { return h.Name == e.Host })
	if i >= 0 {
		h := &snap.config.Hosts[i]
		is.Key, is.Entry = h.Key, fmt.Sprintf("%s:%d", g.options.Config, h.Line)
		is.DrainUntil = snap.conditions[h.Name].DrainUntil
	}
	return is, nil
}

// explained makes the request that q describes.
func explained(q control.ExplainRequest) (*http.Request, error) {
	u, err := url.Parse(q.URL)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("%q is not a whole address, like https://shop.example.org/cart", q.URL)
	}
	r, err := http.NewRequest(cmp.Or(q.Method, http.MethodGet), q.URL, nil)
	if err != nil {
		return nil, err
	}
	r.RequestURI = u.RequestURI()
	for name, values := range q.Header {
		for _, value := range values {
			r.Header.Add(name, value)
		}
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
		r.Header.Del("Host") // as a server hands it on
	}
	if q.Client != "" {
		client, err := netip.ParseAddr(q.Client)
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", q.Client, err)
		}
		const anyPort = 1024
		r.RemoteAddr = netip.AddrPortFrom(client, anyPort).String()
	}
	return r, nil
}

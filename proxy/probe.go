package proxy

import (
	"context"
	"io"
	"net/http"
	"strings"
)

// probeBody is how much of a probe's answer is read, to keep the connection:
// health pages are shorter.
const probeBody = 64 << 10

// Probe asks u for path and query with GET, as a visitor of host would by
// https, and returns the status of the answer. Redirects are not followed. A
// wildcard host is asked for by the upstream's address.
func (u *Upstream) Probe(ctx context.Context, host, path string) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.scheme+"://"+u.address+path, nil)
	if err != nil {
		return 0, err
	}
	switch {
	case u.host != "": // an https upstream has a name of its own, as in a visitor's request
		req.Host = u.host
	case !strings.HasPrefix(host, "*"):
		req.Host = host
	}
	req.Header.Set("User-Agent", "detour")
	req.Header.Set("X-Forwarded-Proto", "https") // else applications redirect to it
	res, err := u.transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, probeBody)
	return res.StatusCode, nil
}

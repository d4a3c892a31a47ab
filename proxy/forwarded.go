package proxy

import (
	"iter"
	"log/slog"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
)

// hopByHop reports whether a field ends at each hop (RFC 9110, 7.6.1, and what
// practice added to it). The name is canonical.
func hopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Alt-Svc":
		return true
	}
	return false
}

// listed are the canonical names of the fields that a Connection field says end
// here. It is walked once: looking each field of a message up in a hostile list
// would take its length times its length.
func listed(connection []string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, v := range connection {
			for item, _, rest, ok := nextItem(v); ok; item, _, rest, ok = nextItem(rest) {
				if !yield(textproto.CanonicalMIMEHeaderKey(item)) {
					return
				}
			}
		}
	}
}

// ours reports whether a request's field says what only a proxy can know, so
// that a stranger's word for it must not reach an application.
func ours(name string) bool {
	switch name {
	case "Forwarded", "True-Client-Ip", "X-Client-Ip", "X-Real-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Cf-")
}

// framing reports whether a request's field is carried outside the header
// map, or means something to CGI only when it is forged ("Proxy" becomes
// HTTP_PROXY there, CVE-2016-5385).
func framing(name string) bool {
	switch name {
	case "Host", "Content-Length", ":protocol", "Proxy":
		return true
	}
	return false
}

// requestHeader is what the upstream gets of r's header: a new map, filled
// once, which shares r's values.
func (h *Handler) requestHeader(r *http.Request, rt *Route, from origin, client, id string) http.Header {
	const added = 8
	out := make(http.Header, len(r.Header)+added)
	underscore := false
	for name, values := range r.Header {
		if hopByHop(name) || framing(name) || ours(name) && !from.trusted {
			continue
		}
		if name == "Cookie" {
			if values = withoutBypassCookie(values); values == nil {
				continue
			}
		}
		underscore = underscore || strings.IndexByte(name, '_') >= 0
		out[name] = values
	}
	for name := range listed(r.Header["Connection"]) {
		delete(out, name)
	}

	one := make([]string, 0, added) // the values of the fields we add, in one piece
	set := func(name, value string) {
		one = append(one, value)
		n := len(one)
		out[name] = one[n-1 : n : n]
	}
	if from.peer.IsValid() {
		peer := client
		if from.client != from.peer {
			peer = from.peer.String()
		}
		if hops := out["X-Forwarded-For"]; hops != nil {
			peer = strings.Join(hops, ", ") + ", " + peer
		}
		set("X-Forwarded-For", peer)
		set("X-Real-Ip", client)
	} else {
		delete(out, "X-Real-Ip")
	}
	if out["X-Forwarded-Proto"] == nil {
		proto := "http"
		if r.TLS != nil {
			proto = "https"
		}
		set("X-Forwarded-Proto", proto)
	}
	if out["X-Forwarded-Host"] == nil {
		set("X-Forwarded-Host", r.Host)
	}
	set("X-Request-Id", id)
	out["Via"] = addVia(out["Via"], r.ProtoMajor, r.ProtoMinor)
	if hasToken(r.Header["Te"], "trailers") {
		set("Te", "trailers") // gRPC servers insist on it
	}
	if out["User-Agent"] == nil {
		out["User-Agent"] = nil // else http.Transport invents one
	}
	if underscore {
		h.dropUnderscores(out, r.Header, rt.Host)
	}
	return out
}

// dropForged removes from a request's trailers what only a header, or only a
// proxy, may say. Servers that merge both would believe it (CVE-2013-5704).
func dropForged(trailer http.Header) {
	for name := range trailer {
		twin := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if ours(twin) || hopByHop(twin) || framing(twin) {
			delete(trailer, name)
		}
	}
}

// dropUnderscores removes the fields that CGI-like interfaces cannot tell from
// another one: to them X_Real_IP and X-Real-IP are both HTTP_X_REAL_IP.
func (h *Handler) dropUnderscores(out, in http.Header, host string) {
	for name := range out {
		if strings.IndexByte(name, '_') < 0 {
			continue
		}
		twin := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if out[twin] != nil || in[twin] != nil || ours(twin) || hopByHop(twin) || framing(twin) {
			delete(out, name)
			h.warnings.underscore(host, name, twin)
		}
	}
}

// warnings tells the operator about dropped fields, once a host and name.
type warnings struct {
	log *slog.Logger

	mu   sync.Mutex // guards told
	told map[warning]bool
}

type warning struct{ host, name string }

func (w *warnings) underscore(host, name, twin string) {
	// Strangers choose the names, so what is remembered must end somewhere;
	// what comes after that is dropped without a word.
	const remembered = 1000
	w.mu.Lock()
	key := warning{host, name}
	tell := !w.told[key] && len(w.told) < remembered
	if tell {
		if w.told == nil {
			w.told = make(map[warning]bool)
		}
		w.told[key] = true
	}
	w.mu.Unlock()
	if tell {
		w.log.Warn("dropped a request header whose underscore makes it look like another one",
			"host", host, "header", name, "looks_like", twin)
	}
}

// responseHeader copies the upstream's header into dst, the client's, which
// holds what the gateway and the route set already.
func responseHeader(dst http.Header, res *http.Response, rt *Route) {
	for name := range listed(res.Header["Connection"]) {
		if !hopByHop(name) { // those are dropped anyway, and an upgrade needs them
			delete(res.Header, name)
		}
	}
	for name, values := range res.Header {
		if hopByHop(name) || name == "Server" || name == "X-Detour" {
			continue
		}
		dst[name] = values
	}
	dst["Via"] = addVia(dst["Via"], res.ProtoMajor, res.ProtoMinor)
	if dst["Content-Type"] == nil {
		dst["Content-Type"] = nil // else net/http guesses one
	}
	rt.editHeader(dst)
}

// addVia appends us to a message's Via field (RFC 9110, 7.6.3) with the
// protocol by which we received it. via itself is not written.
func addVia(via []string, major, minor int) []string {
	us := "1.1 detour"
	switch {
	case major == 2:
		us = "2.0 detour"
	case major == 3:
		us = "3.0 detour"
	case minor == 0:
		us = "1.0 detour"
	}
	return append(via[:len(via):len(via)], us)
}

package proxy

import (
	"log/slog"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"sync"
)

// fieldKind is how a proxy sees a field of a message.
type fieldKind uint8

const (
	endToEnd   fieldKind = iota
	hopField             // ends at each hop (RFC 9110, 7.6.1, and what practice added to it)
	oursField            // of requests: says what only a proxy can know
	frameField           // of requests: carried outside the header map, or only ever forged, to deceive CGI
)

// fieldKindOf knows the kinds; the name is canonical.
func fieldKindOf(name string) fieldKind {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Alt-Svc":
		return hopField
	case "Host", "Content-Length", ":protocol",
		"Proxy": // becomes HTTP_PROXY there, CVE-2016-5385
		return frameField
	case "Forwarded", "True-Client-Ip", "X-Client-Ip", "X-Real-Ip":
		return oursField
	}
	if strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Cf-") {
		return oursField
	}
	return endToEnd
}

// hopByHop reports whether a field ends at each hop.
func hopByHop(name string) bool { return fieldKindOf(name) == hopField }

// dropListed removes from h the fields that a Connection field says end here, except
// for those that always do: they are not passed on anyway, and an upgrade needs them.
// It goes through the list once: looking up each field in it would take quadratic time
// if both are long.
func dropListed(h http.Header, connection []string) {
	if len(connection) == 1 && strings.EqualFold(connection[0], "keep-alive") {
		return // nearly always
	}
	for item := range items(connection) {
		if name := textproto.CanonicalMIMEHeaderKey(item); !hopByHop(name) {
			delete(h, name)
		}
	}
}

// requestHeader fills out, which is empty, with the header for the upstream, which
// shares r's values. The values of fields that it adds are put into space, which has
// room for addedFields.
func (h *Handler) requestHeader(out http.Header, space []string, r *http.Request, rt *Route, from origin, client, id string) {
	underscore := copyFields(out, r.Header, from.trusted)
	addFields(out, space, r, from, client, id)
	if underscore {
		h.dropUnderscores(out, r.Header, rt.Host)
	}
}

// copyFields copies what the upstream may have of a client's header, and reports
// whether there are underscores in the names. Only trusted clients are believed what
// only a proxy can know.
func copyFields(out, in http.Header, trusted bool) (underscore bool) {
	for name, values := range in {
		switch fieldKindOf(name) {
		case hopField, frameField:
			continue
		case oursField:
			if !trusted {
				continue // what a stranger claims must not reach an application
			}
		}
		if name == "Cookie" {
			if values = withoutBypassCookie(values); values == nil {
				continue
			}
		}
		underscore = underscore || strings.IndexByte(name, '_') >= 0
		out[name] = values
	}
	dropListed(out, in["Connection"])
	return underscore
}

// addedFields is how many fields addFields adds with a value of their own.
const addedFields = 6

// addFields adds to out what only we can tell the upstream about r.
func addFields(out http.Header, space []string, r *http.Request, from origin, client, id string) {
	set := func(name, value string) {
		space = append(space, value)
		n := len(space)
		out[name] = space[n-1 : n : n]
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
		set("X-Forwarded-Host", hostField(r.Host))
	}
	set("X-Request-Id", id)
	out["Via"] = addVia(out["Via"], r.ProtoMajor, r.ProtoMinor)
	if te := r.Header["Te"]; te != nil && hasToken(te, "trailers") {
		set("Te", "trailers") // gRPC servers insist on it
	}
	if out["User-Agent"] == nil {
		out["User-Agent"] = nil // else http.Transport invents one
	}
}

// dropForged removes from a request's trailers what only a header, or only a proxy, may
// say. Servers that merge trailers into the header would believe it (CVE-2013-5704).
func dropForged(trailer http.Header) {
	for name := range trailer {
		twin := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if fieldKindOf(twin) != endToEnd {
			delete(trailer, name)
		}
	}
}

// dropUnderscores removes fields that CGI-like interfaces cannot tell from others: to
// them X_Real_IP and X-Real-IP are both HTTP_X_REAL_IP.
func (h *Handler) dropUnderscores(out, in http.Header, host string) {
	for name := range out {
		if strings.IndexByte(name, '_') < 0 {
			continue
		}
		twin := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
		if out[twin] != nil || in[twin] != nil || fieldKindOf(twin) != endToEnd {
			delete(out, name)
			h.warnings.underscore(host, name, twin)
		}
	}
}

// warnings tells the operator about dropped fields, once for each host and name.
type warnings struct {
	log *slog.Logger

	mu   sync.Mutex // guards told
	told map[warning]bool
}

type warning struct{ host, name string }

func (w *warnings) underscore(host, name, twin string) {
	// Strangers choose the names, so only so many are remembered; those that come
	// after that are dropped without a warning.
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

// responseHeader copies the upstream's header into dst, the client's, which already
// holds what the gateway and the route have set.
func responseHeader(dst http.Header, res *http.Response, rt *Route) {
	dropListed(res.Header, res.Header["Connection"])
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

// The Via fields of messages that name nobody before us, by the protocol in which we
// received them. They are in many messages at once, so they are never written.
var (
	via10 = []string{"1.0 detour"}
	via11 = []string{"1.1 detour"}
	via20 = []string{"2.0 detour"}
	via30 = []string{"3.0 detour"}
)

// addVia appends us to a message's Via field (RFC 9110, 7.6.3). via itself is
// not written.
func addVia(via []string, major, minor int) []string {
	us := via11
	switch {
	case major == 2:
		us = via20
	case major == 3:
		us = via30
	case minor == 0:
		us = via10
	}
	if via == nil {
		return us
	}
	return append(slices.Clip(via), us...)
}

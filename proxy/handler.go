package proxy

import (
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync/atomic"

	"detour/logging"
)

// Handler routes requests by host. Its table may be replaced at any time with
// Swap; a request uses the table that was current when it arrived.
// A Handler must not be copied after first use.
type Handler struct {
	table    atomic.Pointer[Table] // never nil after NewHandler
	warnings warnings
	tunnels  tunnels
}

// HandlerOptions say what a Handler is made of.
type HandlerOptions struct {
	Table *Table       // nil = no host is served yet
	Log   *slog.Logger // nil = nobody is told
}

// NewHandler makes a Handler.
func NewHandler(o HandlerOptions) *Handler {
	h := new(Handler)
	h.warnings.log = o.Log
	if o.Log == nil {
		h.warnings.log = slog.New(slog.DiscardHandler)
	}
	if o.Table == nil {
		o.Table, _ = NewTable(TableOptions{}) // without names there is none twice
	}
	h.table.Store(o.Table)
	return h
}

// Swap installs t for new requests and returns the table it replaced.
// Requests in flight keep the old one, so the caller must not close anything
// the old table refers to until they are done.
func (h *Handler) Swap(t *Table) *Table { return h.table.Swap(t) }

// Table is the table in force.
func (h *Handler) Table() *Table { return h.table.Load() }

// ServeHTTP is the whole decision: which host is asked for, is it served here,
// is it online; then its upstream answers, or we do.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	table := h.table.Load()
	rec := logging.RecordFrom(r.Context())
	from := table.trusted.origin(r)
	rec.ClientIP = from.text()
	rec.RequestID = requestID(r, from)

	host, err := CanonicalHost(r.Host)
	if err != nil || ambiguous(r) {
		fail(w, r, nil, rec, errMalformed)
		return
	}
	if r.ProtoMajor < 3 {
		w.Header()["Alt-Svc"] = table.altSvc
	}
	rt := table.Lookup(host)
	if rt == nil {
		fail(w, r, nil, rec, errNotServed)
		return
	}
	rec.Sink, rec.Discard = rt.Log, rt.Log == nil
	rt.Stats.Requests.Add(1)
	rt.Stats.InFlight.Add(1)
	defer rt.Stats.InFlight.Add(-1)
	rt.editHeader(w.Header())

	if !rt.Online {
		answerOffline(w, r, rt, rec)
		return
	}
	h.forward(w, r, rt, rec, from)
}

// RedirectToHTTPS is the handler of plain HTTP: 308 to the same host and URI
// on https, for hosts that are not served here too, so that nobody learns from
// plain HTTP which ones are. The connection is closed: nobody has a second
// request for it.
func (h *Handler) RedirectToHTTPS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		table := h.table.Load()
		rec := logging.RecordFrom(r.Context())
		from := table.trusted.origin(r)
		rec.ClientIP = from.text()
		rec.RequestID = requestID(r, from)
		w.Header().Set("Connection", "close")

		host, err := CanonicalHost(r.Host)
		if err != nil || ambiguous(r) {
			fail(w, r, nil, rec, errMalformed)
			return
		}
		if rt := table.Lookup(host); rt != nil {
			rec.Sink, rec.Discard = rt.Log, rt.Log == nil
		}
		rec.Action = "redirect"
		w.Header().Set("Location", "https://"+host+table.port+requestURI(r))
		w.Header()["Content-Type"] = nil // no body, so no type to guess
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

// ambiguous reports whether another parser could read r's target or host in
// another way than we do. The servers refuse most of that before it gets here.
func ambiguous(r *http.Request) bool {
	for i := range len(r.RequestURI) {
		if c := r.RequestURI[i]; c <= ' ' || c == 0x7f || c == '#' {
			return true
		}
	}
	// RFC 9113, 8.3.1: a Host that contradicts :authority is malformed.
	host := r.Header["Host"]
	return len(host) > 1 || len(host) == 1 && host[0] != r.Host
}

// requestID names the request in logs, pages and at the upstream. A proxy we
// believe may have named it already; from a stranger the name could forge or
// break log lines.
func requestID(r *http.Request, from origin) string {
	if from.trusted {
		if id := r.Header["X-Request-Id"]; len(id) == 1 && plainID(id[0]) {
			return id[0]
		}
	}
	return rand.Text()
}

// plainID reports whether s looks like an identifier: letters, digits, and
// what UUIDs, ULIDs, base64 and trace ids are written with.
func plainID(s string) bool {
	const longest = 128 // of those known, the longest has 64
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '.', c == ':', c == '/', c == '+', c == '=':
		default:
			return false
		}
	}
	return s != "" && len(s) <= longest
}

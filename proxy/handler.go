package proxy

import (
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"detour/engine/memory"
	"detour/logging"
)

// Handler routes requests by host. Its table may be replaced at any time with
// Swap; a request uses the table that was current when it arrived.
// A Handler must not be copied after first use.
type Handler struct {
	table    atomic.Pointer[Table] // never nil after NewHandler
	warnings warnings
	tunnels  tunnels
	memory   *memory.Budget
	encoders encoderBudget
	bypass   *bypass
	observe  Observer
}

// HandlerOptions say what a Handler is made of.
type HandlerOptions struct {
	Table *Table       // nil = no host is served yet
	Log   *slog.Logger // nil = nobody is told

	// BypassKey signs bypass links and cookies. It should be 32 random bytes;
	// nil = a random one, so that links and cookies end with the process.
	BypassKey []byte
	Observer  Observer // nil = none

	Memory *memory.Budget // of large buffers; nil = there is no limit
}

// NewHandler makes a Handler.
func NewHandler(o HandlerOptions) *Handler {
	h := &Handler{bypass: newBypass(o.BypassKey, time.Now), observe: o.Observer, memory: o.Memory}
	h.encoders.memory = o.Memory
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

// Swap installs t for new requests. Requests in flight keep the old table, so the
// caller must not close anything that it refers to until they are done. Only requests
// of which nothing was sent yet, because they wait for an upstream to take connections
// or have arrived at this very moment, are answered as offline if their host is that
// now. Swap must not be called concurrently.
func (h *Handler) Swap(t *Table) {
	old := h.table.Swap(t)
	for _, rt := range old.routes {
		if now := t.Lookup(rt.Host); now == nil || now.Stats != rt.Stats {
			rt.Stats.queue.admit(false) // there is nobody to wait for
		}
	}
	for _, rt := range t.routes {
		rt.Stats.queue.admit(rt.Online || rt.Draining)
		rt.Stats.exchanges.admit(rt.Online || rt.Draining)
	}
}

// course is what becomes of a request.
type course uint8

const (
	courseRefused course = iota // it names no host of ours
	courseOnline                // forwarded: the host is online
	courseSession               // forwarded: the host drains, and the request belongs to a running session
	courseBypass                // forwarded: the client is let through
	courseLink                  // redirected: a bypass link was opened
	courseOffline               // answered here: the host is not online
)

// decision is a course and what it was made of.
type decision struct {
	course course
	r      *http.Request // without the token of a bypass link
	host   string        // canonical; "" = malformed
	rt     *Route        // nil = refused
	err    error         // why it is refused
	token  string        // of a bypass link; "" = none
}

// decide is the whole decision about r: which host it asks for, whether that is served
// here and online, and if it is not online, whether this client is served all the
// same. It changes nothing.
func (h *Handler) decide(t *Table, r *http.Request, from origin) decision {
	d := decision{err: errMalformed}
	d.token, d.r = takeLink(r)
	host, err := CanonicalHost(r.Host)
	if err != nil || ambiguous(r) {
		return d
	}
	d.host = host
	if d.rt = t.Lookup(host); d.rt == nil {
		d.err = errNotServed
		return d
	}
	d.err = nil
	switch rt := d.rt; {
	case d.token != "" && isSafe(r.Method):
		d.course = courseLink
	case rt.Online:
		d.course = courseOnline
	case rt.Draining && rt.Session.Matches(d.r):
		d.course = courseSession
	case contains(t.bypass, from.client), h.bypass.admits(r, host, rt.Since):
		d.course = courseBypass
	default:
		d.course = courseOffline
	}
	return d
}

// ServeHTTP does what decide says: the host's upstream answers, or we do.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	table := h.table.Load()
	rec := logging.RecordFrom(w)
	from := table.trusted.origin(r)
	rec.ClientIP = from.text(r.RemoteAddr)
	rec.RequestID = requestID(r, from)

	d := h.decide(table, r, from)
	r = d.r
	if r.ProtoMajor == 1 && r.Method == http.MethodConnect {
		w.Header().Set("Connection", "close") // the client may already send what is meant for the tunnel
	}
	if d.host != "" && r.ProtoMajor < 3 {
		w.Header()["Alt-Svc"] = table.altSvc
	}
	rt := d.rt
	if rt == nil {
		fail(w, r, nil, rec, d.err)
		return
	}
	rec.Sink, rec.Discard = rt.Log, rt.Log == nil
	rt.Stats.Requests.Add(1)
	inFlight := &rt.Stats.InFlight
	if d.course == courseBypass {
		inFlight = &rt.Stats.Bypassed
	}
	inFlight.Add(1)
	defer inFlight.Add(-1)
	rt.editHeader(w.Header())

	switch d.course {
	case courseLink:
		h.openLink(w, r, rt, rec, d.host, d.token)
	case courseOffline:
		answerOffline(w, r, rt, rec)
	default:
		h.forward(w, r, rt, rec, from, d.course)
	}
}

// RedirectToHTTPS is the handler of plain HTTP: 308 to the same host and URI on https,
// also for hosts that are not served here, so that nobody learns from plain HTTP which
// ones are. The connection is closed, as no second request will come on it.
func (h *Handler) RedirectToHTTPS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		table := h.table.Load()
		rec := logging.RecordFrom(w)
		from := table.trusted.origin(r)
		rec.ClientIP = from.text(r.RemoteAddr)
		rec.RequestID = requestID(r, from)
		w.Header().Set("Connection", "close")
		redirectToHTTPS(w, r, table, rec)
	})
}

func redirectToHTTPS(w http.ResponseWriter, r *http.Request, t *Table, rec *logging.Record) {
	host, err := CanonicalHost(r.Host)
	if err != nil || ambiguous(r) {
		fail(w, r, nil, rec, errMalformed)
		return
	}
	if rt := t.Lookup(host); rt != nil {
		rec.Sink, rec.Discard = rt.Log, rt.Log == nil
	}
	rec.Action = actionRedirect
	w.Header().Set("Location", "https://"+host+t.port+requestURI(r))
	w.Header()["Content-Type"] = nil // no body, so no type to guess
	w.WriteHeader(http.StatusPermanentRedirect)
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
	if host := r.Header["Host"]; len(host) > 1 || len(host) == 1 && host[0] != r.Host {
		return true
	}
	// RFC 9113, 8.1.1: so is a length that contradicts itself, or the body.
	length := r.Header["Content-Length"]
	if len(length) == 0 {
		return false
	}
	n, err := strconv.ParseInt(length[0], 10, 64)
	return len(length) > 1 || err != nil || n != r.ContentLength
}

// requestID names the request in logs, on pages and to the upstream. A trusted proxy
// may have named it already; a stranger's name could forge or break log lines.
func requestID(r *http.Request, from origin) string {
	if from.trusted {
		if id := r.Header["X-Request-Id"]; len(id) == 1 && plainID(id[0]) {
			return id[0]
		}
	}
	return newID()
}

// newID is like crypto/rand.Text: 26 characters of base32, 130 random bits. The
// runtime's generator, ChaCha8 keyed by the system, is just as hard to guess, and
// needs no system call.
func newID() string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	var id [26]byte
	for rest := id[:]; len(rest) > 0; {
		bits := rand.Uint64()
		n := min(len(rest), 64/5)
		for i := range rest[:n] {
			rest[i] = alphabet[bits%32]
			bits /= 32
		}
		rest = rest[n:]
	}
	return string(id[:])
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

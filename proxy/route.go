package proxy

import (
	"net/http"
	"net/textproto"
	"slices"
	"sync/atomic"
	"time"

	"detour/logging"
)

// Route is a host's entry, compiled and ready to serve. Nothing in it is written after
// NewTable, except for what Stats counts.
type Route struct {
	Host        string   // canonical; may be a wildcard
	Names       []string // Host and its aliases
	Online      bool
	StatusPage  StatusPage // zero = none
	RedirectAll bool       // while offline: 302 for every kind of client
	RetryAfter  time.Duration
	Pool        *Pool // the upstreams; shared by all tables while they stay the same
	Compress    bool
	Headers     []HeaderEdit  // on answers, in this order
	edits       []edit        // Headers, compiled by NewTable
	MaxBody     int64         // bytes of a request's body; 0 = no limit
	Log         *logging.Sink // nil: not logged
	Stats       *Stats        // shared by all tables the host lives in; never nil

	// The rest matters while the host is not online, except for Hold and
	// PassiveStatus.

	Draining bool      // running sessions are still proxied, others are answered as offline
	Session  *Session  // what a running session is known by; nil = nothing
	Since    time.Time // when the host stopped being online; bypasses from before are worthless
	Until    time.Time // announced end, for Retry-After; zero or past = RetryAfter is sent
	Cause    string    // why the host is not online, for Explain
	Reason   string    // shown to visitors; may hold anything, as it is escaped

	Hold          time.Duration // how long a request waits for an upstream that takes no connection; 0 = not at all
	PassiveStatus bool          // the observer hears of 502, 503 and 504 in answers too
}

// HeaderEdit sets a header field of an answer; an empty Value removes it.
type HeaderEdit struct{ Name, Value string }

// edit is a HeaderEdit as it is applied.
type edit struct {
	of     HeaderEdit
	name   string   // canonical
	values []string // in many answers at once; nil = remove
}

// compile prepares rt for serving, unless it is prepared already.
func (rt *Route) compile() {
	if slices.EqualFunc(rt.Headers, rt.edits, func(e HeaderEdit, done edit) bool { return e == done.of }) {
		return
	}
	rt.edits = nil
	for _, e := range rt.Headers {
		done := edit{of: e, name: textproto.CanonicalMIMEHeaderKey(e.Name)}
		if e.Value != "" {
			done.values = []string{e.Value}
		}
		rt.edits = append(rt.edits, done)
	}
}

// editHeader applies the route's edits to an answer's header. It is called at first, so
// that every answer has them, and again for the upstream's header.
func (rt *Route) editHeader(h http.Header) {
	for _, e := range rt.edits {
		if e.values == nil {
			delete(h, e.name)
		} else {
			h[e.name] = e.values
		}
	}
}

// Stats counts what a host does. It is written while serving, by atomics.
type Stats struct {
	InFlight atomic.Int64  // requests being served, upgraded connections included, bypassed ones not
	Bypassed atomic.Int64  // the same of clients that are let through although the host is not online; Cut spares them
	Requests atomic.Uint64 // since start
	Streams  atomic.Int64  // upgraded connections and event streams that are open
	Sessions atomic.Uint64 // requests since start that were proxied in a drain because they belong to a session

	lastSession atomic.Pointer[time.Time] // nil = never
	failure     atomic.Pointer[recentFailure]
	exchanges   exchanges
	queue       holdQueue
}

type recentFailure struct {
	message string
	at      time.Time
}

// LastError is why proxying failed most recently, and when; "" = it never did.
func (s *Stats) LastError() (string, time.Time) {
	if f := s.failure.Load(); f != nil {
		return f.message, f.at
	}
	return "", time.Time{}
}

// LastSession is when Sessions was counted up most recently, by a clock that
// nobody sets; zero = never.
func (s *Stats) LastSession() time.Time {
	if at := s.lastSession.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

func (s *Stats) sessionSeen() {
	s.Sessions.Add(1)
	now := time.Now()
	s.lastSession.Store(&now)
}

func (s *Stats) failed(err error) {
	s.failure.Store(&recentFailure{err.Error(), time.Now()})
}

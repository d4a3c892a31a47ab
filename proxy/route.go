package proxy

import (
	"net/http"
	"sync/atomic"
	"time"

	"detour/logging"
)

// Route is a host's entry compiled, ready to serve. Nothing in it is written
// after NewTable took it, except for what Stats counts.
type Route struct {
	Host       string   // canonical; may be a wildcard
	Names      []string // Host and its aliases
	Online     bool
	StatusPage StatusPage // zero = none
	Answer     Answer     // to visitors while offline
	RetryAfter time.Duration
	Upstream   *Upstream
	Compress   bool
	Headers    []HeaderEdit  // on answers, in this order
	MaxBody    int64         // bytes of a request's body; 0 = no limit
	Log        *logging.Sink // nil: not logged
	Stats      *Stats        // shared by all tables the host lives in; never nil
}

// Answer says how an offline host answers.
type Answer string

// The kinds of Answer.
const (
	AnswerAdaptive Answer = "adaptive" // by the kind of client
	AnswerRedirect Answer = "redirect" // 302 for everything
)

// HeaderEdit sets a header field of an answer; an empty Value removes it.
type HeaderEdit struct{ Name, Value string }

// editHeader applies the route's edits to an answer's header. It is done
// first, so that every answer has them, and again over the upstream's header.
func (rt *Route) editHeader(h http.Header) {
	for _, e := range rt.Headers {
		if e.Value == "" {
			h.Del(e.Name)
		} else {
			h.Set(e.Name, e.Value)
		}
	}
}

// Stats counts what a host does. It is written while serving, by atomics.
type Stats struct {
	InFlight atomic.Int64  // requests being served, upgraded connections included
	Requests atomic.Uint64 // since start
	failure  atomic.Pointer[recentFailure]
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

func (s *Stats) failed(err error) {
	s.failure.Store(&recentFailure{err.Error(), time.Now()})
}

package proxy

import (
	"net/http"
	"time"

	"detour/logging"
)

// Explanation says what a Handler would do with a request, and why.
type Explanation struct {
	Host       string    // of the Route; "" = not served here
	State      string    // "online", "draining" or "offline"; "" = not served here
	Cause      string    // why it is not online, as the Route has it
	Reason     string    // in the operator's words, as the Route has it; not escaped
	Until      time.Time // announced end; zero = unknown
	Why        string    // what decided, in words
	Kind       string    // of client, as far as offline hosts tell them apart: "page", "submit", "websocket", …
	Action     string    // as the access log would name it
	Status     int       // of the answer; 0 = the upstream's
	Location   string    // of a redirect; "" = none
	RetryAfter string    // "" = not said
	Upstream   string    // "10.1.1.4:80"; "" = not forwarded
}

// Explain says what ServeHTTP, or without tls RedirectToHTTPS, would do with r
// at this moment. It decides and answers by their very code, but forwards
// nothing, counts nothing and uses no bypass link up. RemoteAddr may be empty:
// a client of no known network.
func (h *Handler) Explain(r *http.Request, tls bool) Explanation {
	t := h.table.Load()
	d := h.decide(t, r, t.trusted.origin(r))
	e := Explanation{Why: d.course.String(), Kind: kindOf(d.r).String()}
	if rt := d.rt; rt != nil {
		e.Host, e.State = rt.Host, rt.state()
		e.Cause, e.Reason, e.Until = rt.Cause, rt.Reason, rt.Until
	} else {
		e.Why = d.err.Error()
	}
	answer := &sketch{header: make(http.Header)}
	rec := new(logging.Record)
	switch {
	case !tls:
		e.Why = "plain HTTP is redirected to https"
		redirectToHTTPS(answer, r, t, rec)
	case d.rt == nil:
		fail(answer, d.r, nil, rec, d.err)
	case d.course == courseLink:
		rec.Action = actionRedirect
		redirectToClean(answer, d.r, d.host)
	case d.course == courseOffline:
		answerOffline(answer, d.r, d.rt, rec)
	default:
		rec.Action = actionProxy
		if d.course == courseBypass {
			rec.Action = actionBypass
		}
		e.Upstream = d.rt.Pool.pick(nil).name
	}
	e.Action, e.Status = rec.Action, answer.status
	e.Location, e.RetryAfter = answer.header.Get("Location"), answer.header.Get("Retry-After")
	return e
}

// sketch is an answer that nobody gets.
type sketch struct {
	header http.Header
	status int
}

func (s *sketch) Header() http.Header         { return s.header }
func (s *sketch) WriteHeader(status int)      { s.status = status }
func (s *sketch) Write(p []byte) (int, error) { return len(p), nil }

// state is a Route's state in a word.
func (rt *Route) state() string {
	switch {
	case rt.Online:
		return "online"
	case rt.Draining:
		return "draining"
	}
	return "offline"
}

// String says why the course was taken.
func (c course) String() string {
	return [...]string{
		courseRefused: "no host of this gateway",
		courseOnline:  "the host is online",
		courseSession: "the host is draining, and the request carries the sign of a running session",
		courseBypass:  "the client is let through to a host that is not online",
		courseLink:    "a bypass link was opened",
		courseOffline: "the host is not online",
	}[c]
}

// String names a kind.
func (k kind) String() string {
	return [...]string{
		kindPage:      "page",
		kindPart:      "part of a page",
		kindPreflight: "CORS preflight",
		kindSubmit:    "submit",
		kindWebSocket: "websocket",
		kindGRPC:      "grpc",
		kindDAV:       "dav",
		kindProbe:     "nextcloud status probe",
		kindBot:       "bot",
		kindFetch:     "git or container registry",
	}[k]
}

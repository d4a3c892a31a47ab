// Package control is the control socket: HTTP and JSON on a unix socket, by which
// the command line asks a running gateway for its state and makes it reload.
// Server and client are both here, so that they cannot disagree.
package control

import (
	"net/http"
	"time"
)

// Switchboard is what a Server needs of the gateway. Its methods may be called
// from several goroutines at once.
type Switchboard interface {
	// Status describes the gateway at this moment.
	Status() Status
	// Reload reads the configuration again and returns when the new state
	// serves, or when it was refused.
	Reload(o ReloadOptions) Report
	// Bypass makes a link by which one person reaches the upstream of an
	// offline host for d, counted from now. host is a key, a name, an alias, or a
	// name below a wildcard; the link is for that name alone.
	// An error says why there is no such link, and is shown to the operator.
	Bypass(host string, d time.Duration) (link string, err error)
	// Explain says what the gateway would do with a request at this moment, and
	// does none of it. An error says why there can be no such request.
	Explain(r ExplainRequest) (Explanation, error)
	// RetryCertificates orders failing certificates again now; no names = all.
	RetryCertificates(names ...string)
	// LocalRoot is the local CA's root certificate in PEM.
	LocalRoot() ([]byte, error)
}

// ReloadOptions are what a reload is told beyond the file.
type ReloadOptions struct {
	// Drain says, by canonical host, how long running sessions are still served
	// if this reload takes the host offline. It wins over the host's own drain;
	// 0 = not at all. For a host that drains already because of its flag or
	// offline.all it sets the end anew, counted from now. For one that is offline
	// it means nothing.
	Drain map[string]time.Duration `json:"drain,omitempty"`
	// End names canonical hosts on which, if they are offline already, what is
	// still open is ended.
	End []string `json:"end,omitempty"`
	// Online names canonical hosts that come back at once, where after a window
	// they would wait for an answer of their upstream.
	Online []string `json:"online,omitempty"`
}

// Report is what a reload did.
type Report struct {
	Generation uint64   `json:"generation"`          // in force after the reload
	Unchanged  bool     `json:"unchanged,omitempty"` // the configuration means the same as before; the logs were opened again
	Changed    []string `json:"changed,omitempty"`   // hosts whose entry changed
	Added      []string `json:"added,omitempty"`     // hosts that are new
	Removed    []string `json:"removed,omitempty"`   // hosts that are gone
	Online     []string `json:"online,omitempty"`    // hosts that went online
	Offline    []string `json:"offline,omitempty"`   // hosts that went offline
	Restart    []string `json:"restart,omitempty"`   // changed keys that need a restart to take effect
	Problems   []string `json:"problems,omitempty"`  // why it was refused, one line each; nothing changed then
}

// Refused reports whether the configuration was not taken.
func (r Report) Refused() bool { return len(r.Problems) > 0 }

// Status describes a running gateway.
type Status struct {
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	Started    time.Time `json:"started"`
	Config     string    `json:"config"` // absolute path of its proxy.toml
	Generation uint64    `json:"generation"`
	Reloaded   time.Time `json:"reloaded"`           // when that generation took effect
	Problems   []string  `json:"problems,omitempty"` // of the last refused reload
	Restart    []string  `json:"restart,omitempty"`  // keys that wait for a restart
	Listeners  []string  `json:"listeners"`          // "https tcp 0.0.0.0:443"
	Hosts      []Host    `json:"hosts"`
	Logs       Logs      `json:"logs"`
}

// Host is one host's state.
type Host struct {
	Host    string   `json:"host"` // canonical name
	Key     string   `json:"key"`  // as in the file
	Aliases []string `json:"aliases,omitempty"`

	State      string    `json:"state"`                 // "online", "draining" or "offline"
	Cause      string    `json:"cause,omitempty"`       // of not being online: "flag", "all", "window", "overran", "health"
	Until      time.Time `json:"until,omitzero"`        // the announced end; zero = unknown
	DrainUntil time.Time `json:"drain_until,omitzero"`  // while draining: offline for everybody from then on, at the latest
	Reason     string    `json:"reason,omitempty"`      // the operator's words: they may hold anything
	Next       *Window   `json:"next_window,omitempty"` // the next one that has not begun; nil = none
	StatusPage string    `json:"status_page,omitempty"`

	Health    string     `json:"health,omitempty"` // of all upstreams together: "unknown", "healthy", "unhealthy"; "" = not probed
	Upstream  string     `json:"upstream"`         // the first of Upstreams
	Upstreams []Upstream `json:"upstreams,omitempty"`

	InFlight    int64        `json:"in_flight"` // requests being served, upgraded connections included, bypassed ones not
	Bypassed    int64        `json:"bypassed"`  // the same for requests that bypass being offline: the end of a drain spares them
	Streams     int64        `json:"streams"`   // of these: WebSockets, other tunnels and event streams
	Sessions    int64        `json:"sessions"`  // while draining: requests of running sessions since it began
	Requests    uint64       `json:"requests"`  // since start
	LastError   string       `json:"last_error,omitempty"`
	LastErrorAt time.Time    `json:"last_error_at,omitzero"`
	Certificate *Certificate `json:"certificate,omitempty"`

	// AliasCertificates are those of the aliases, where they have their own.
	AliasCertificates []Certificate `json:"alias_certificates,omitempty"`
}

// Window is one planned maintenance of a host.
type Window struct {
	Begin  time.Time `json:"begin"` // of its drain; the same as From without one
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"` // the operator's words: they may hold anything
}

// Upstream is one of a host's upstreams.
type Upstream struct {
	Address  string `json:"address"` // as an operator writes it
	Standby  bool   `json:"standby,omitempty"`
	Health   string `json:"health,omitempty"` // "unknown", "healthy", "unhealthy"; "" = not probed
	InFlight int64  `json:"in_flight"`
}

// ExplainRequest is a request to be explained.
type ExplainRequest struct {
	Method string      `json:"method,omitempty"` // "" = GET
	URL    string      `json:"url"`              // absolute, http or https
	Header http.Header `json:"header,omitempty"`
	Client string      `json:"client,omitempty"` // the client's address; "" = one that no rule names
}

// Explanation is what the gateway would do with a request, and why. The zero
// value of a field means that it does not apply.
type Explanation struct {
	Host  string `json:"host,omitempty"`  // canonical name; "" = no entry is for it
	Key   string `json:"key,omitempty"`   // as in the file
	Entry string `json:"entry,omitempty"` // where the entry stands: "/etc/detour/proxy.toml:14"

	State      string    `json:"state,omitempty"` // as in Host, like the next four
	Cause      string    `json:"cause,omitempty"`
	Until      time.Time `json:"until,omitzero"`
	DrainUntil time.Time `json:"drain_until,omitzero"`
	Reason     string    `json:"reason,omitempty"`

	Kind     string      `json:"kind,omitempty"`          // of client that an offline host tells apart: "page"
	Action   string      `json:"action"`                  // the word of the access log: "proxy", "redirect", "unavailable", …
	Why      string      `json:"why,omitempty"`           // the rule that decided, one sentence without a full stop
	Status   int         `json:"status,omitempty"`        // of the gateway's own answer; 0 = the upstream answers
	Header   http.Header `json:"answer_header,omitempty"` // what the gateway's own answer says in its header
	Upstream string      `json:"upstream,omitempty"`      // that would be asked now
}

// Certificate is what a host answers a TLS handshake with.
type Certificate struct {
	Names    []string  `json:"names"`
	Issuer   string    `json:"issuer"`
	NotAfter time.Time `json:"not_after,omitzero"`
	State    string    `json:"state"` // "valid", "pending", "failing", "local", "own", "expired"
	Error    string    `json:"error,omitempty"`
	NextTry  time.Time `json:"next_try,omitzero"`
}

// Logs is the access logs' health.
type Logs struct {
	Dir     string `json:"dir"`
	Written uint64 `json:"written"` // lines
	Dropped uint64 `json:"dropped"` // lines lost because the disk was slow, full or unwritable
	Error   string `json:"error,omitempty"`
}

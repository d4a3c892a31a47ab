// Package control is the switchboard's socket: HTTP and JSON on a unix socket,
// by which the command line asks a running gateway how it is and tells it to
// reload. Server and client live here so that they cannot disagree.
package control

import (
	"context"
	"time"
)

// Switchboard is what a Server needs of the gateway. Its methods may be called
// from several goroutines at once.
type Switchboard interface {
	// Status describes the gateway at this moment.
	Status() Status
	// Reload reads the configuration again and returns when the new state
	// serves, or when it was refused.
	Reload(ctx context.Context) Report
	// RetryCertificates orders failing certificates again now; no names = all.
	RetryCertificates(names ...string)
	// LocalRoot is the local CA's root certificate in PEM.
	LocalRoot() ([]byte, error)
}

// Report is what a reload did.
type Report struct {
	Generation uint64   `json:"generation"`         // in force after the reload
	Changed    []string `json:"changed,omitempty"`  // hosts whose entry changed
	Added      []string `json:"added,omitempty"`    // hosts that are new
	Removed    []string `json:"removed,omitempty"`  // hosts that are gone
	Online     []string `json:"online,omitempty"`   // hosts that went online
	Offline    []string `json:"offline,omitempty"`  // hosts that went offline
	Restart    []string `json:"restart,omitempty"`  // changed keys that need a restart to take effect
	Problems   []string `json:"problems,omitempty"` // why it was refused, one line each; nothing changed then
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
	Listeners  []string  `json:"listeners"`          // "https tcp 0.0.0.0:443"
	Hosts      []Host    `json:"hosts"`
	Logs       Logs      `json:"logs"`
}

// Host is one host's state.
type Host struct {
	Host        string       `json:"host"` // canonical name
	Key         string       `json:"key"`  // as in the file
	Aliases     []string     `json:"aliases,omitempty"`
	State       string       `json:"state"` // "online" or "offline"
	Upstream    string       `json:"upstream"`
	StatusPage  string       `json:"status_page,omitempty"`
	InFlight    int64        `json:"in_flight"` // requests being served, upgraded connections included
	Requests    uint64       `json:"requests"`  // since start
	LastError   string       `json:"last_error,omitempty"`
	LastErrorAt time.Time    `json:"last_error_at,omitzero"`
	Certificate *Certificate `json:"certificate,omitempty"`
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

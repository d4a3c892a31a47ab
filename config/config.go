// Package config turns proxy.toml into a validated, immutable Config, reports
// every mistake of the file at once with its place, and edits single values
// while keeping every other byte. Of the other rooms it knows state alone, which
// says what a maintenance means.
//
// Reading: load.go → document.go makes a tree of the TOML that remembers places →
// decode.go moves it into a Config by the lists in keys.go, the only place that
// names the keys, and by the types in values.go and the files called after
// theirs → check.go sees keys together. problem.go is how mistakes are told.
//
// Editing: edit.go, all.go and maintenance_*.go find what to replace, write.go
// writes it, and save.go puts the new file in the place of the old one.
package config

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"
)

// Config is a validated configuration. It is plain values, complete with
// defaults, and never written again after Load or Parse returned it, so it may
// be shared between goroutines.
type Config struct {
	File       string // path or name it was read from, for messages
	Domain     string // zone of the names without a dot; "" = all names are full
	StatusPage string // template with {uri} and {host}; "" = none
	Listen     Listen
	ACME       ACME
	Log        Log
	Offline    Offline
	Bypass     Bypass
	Notify     Notify
	Control    Control
	Watch      bool // reload when the file changes

	TimeZone    *time.Location // of times without a zone, and of cron lines; never nil after Load
	Maintenance []Maintenance  // in the file's order, the past ones too
	Hosts       []Host         // in the file's order
}

// TakenByAll reports whether [offline] all is for h.
func (c *Config) TakenByAll(h *Host) bool {
	return c.Offline.All && !slices.Contains(c.Offline.Except, h.Name)
}

// WantsOnline reports whether h is online by its flag and [offline] all, leaving
// windows aside.
func (c *Config) WantsOnline(h *Host) bool { return h.Online && !c.TakenByAll(h) }

// Equal reports whether two configurations mean the same, wherever they were
// read from and on whichever lines their hosts stand.
func Equal(a, b *Config) bool {
	return reflect.DeepEqual(a.meaning(), b.meaning())
}

// meaning is c without the places of its text.
func (c *Config) meaning() Config {
	m := *c
	m.File = ""
	m.Hosts = slices.Clone(c.Hosts)
	for i := range m.Hosts {
		m.Hosts[i].Line = 0
	}
	m.TimeZone = time.FixedZone(c.TimeZone.String(), 0) // a Location holds what it looked up last
	m.Maintenance = slices.Clone(c.Maintenance)
	for i := range m.Maintenance {
		w := &m.Maintenance[i]
		w.Line, w.From, w.Until = 0, w.From.UTC(), w.Until.UTC()
		w.Ended = maps.Clone(w.Ended)
		for name, at := range w.Ended {
			w.Ended[name] = at.UTC()
		}
	}
	return m
}

// Listen is the [listen] table.
type Listen struct {
	HTTP           string // address that redirects to https; "" = off
	HTTPS          string // TCP for HTTP/1.1 and 2, UDP for HTTP/3
	HTTP3          bool
	AdvertisePort  int // port in Alt-Svc and redirects; never 0 after Load
	TrustedProxies TrustedProxies
	MaxConnections int // of clients, on HTTP and HTTPS together; 0 = as many as descriptors and memory allow
	Engine         Engine
	Grace          time.Duration // how long SIGTERM drains
}

// Engine is what serves HTTP/1.1 and HTTP/2.
type Engine string

// The values of listen.engine.
const (
	NetHTTP Engine = "net/http" // the standard library's
	Detour  Engine = "detour"   // ours
)

// TrustedProxies says which peers are believed when they name a client.
type TrustedProxies struct {
	Cloudflare bool // "cloudflare": Cloudflare's published ranges
	Private    bool // "private": loopback, RFC 1918, RFC 4193, link-local
	Networks   []netip.Prefix
}

// ACME is the [acme] table.
type ACME struct {
	Issuer               // the first choice
	Fallback     *Issuer // [acme.fallback], asked when the first fails; nil = none
	TokenFile    string  // file with the Cloudflare token; "" = environment or credential
	Certificates Certificates
	Storage      string   // directory in certmagic's layout
	Resolvers    []string // host:port asked whether the TXT record is visible; empty = the zone's own name servers
}

// Issuer is a certificate authority and the account used there.
type Issuer struct {
	CA         string // CALocal or an ACME directory URL; keywords are resolved
	CARoot     string // PEM file of a private CA's root; "" = the system's roots
	Email      string
	EABKeyID   string // external account binding; "" = none
	EABKeyFile string // file with the base64url HMAC key; "" = ACME_EAB_KEY or the credential acme_eab_key
}

// CALocal is the Issuer.CA of the embedded local CA.
const CALocal = "local"

// Certificates says how names share certificates.
type Certificates string

// The values of acme.certificates.
const (
	PerHost  Certificates = "per-host"
	Wildcard Certificates = "wildcard"
)

// Log is the [log] table: the access logs.
type Log struct {
	Dir         string
	MaxSize     int64         // bytes
	Keep        int           // rotated files kept; 0 = all
	MaxAge      time.Duration // 0 = for ever
	Compress    bool
	Mode        uint32 // permission bits
	RedactQuery []string
}

// Offline is the [offline] table.
type Offline struct {
	All        bool     // every host but Except is offline, whatever its flag says
	Except     []string // canonical Names
	Answer     Answer
	RetryAfter time.Duration
}

// Answer says how an offline host answers.
type Answer string

// The values of offline.answer.
const (
	Adaptive Answer = "adaptive" // by the kind of client
	Redirect Answer = "redirect" // 302 for everything
)

// Bypass is the [bypass] table: whose requests are proxied although the host is
// offline.
type Bypass struct {
	Networks []netip.Prefix // of the clients' addresses
}

// Notify is the [notify] table: who is told when something happens to a host.
type Notify struct {
	URL            string        // each notice is sent there with POST; "" = none. It may hold a secret
	Format         string        // of the body: "text" or "json"
	Command        []string      // program and arguments, run for each notice; empty = none
	ForgottenAfter time.Duration // a healthy host that was taken offline is worth a notice after this; 0 = never
}

// Control is the [control] table.
type Control struct {
	Socket string // path of the unix socket
}

// Host is one entry of [hosts].
type Host struct {
	Key             string     // as written in the file: "blog"
	Name            string     // canonical full name: "blog.udance.com.au"; may start with "*."
	Aliases         []string   // further canonical full names
	Line            int        // line of the entry in the file
	Upstreams       []Upstream // all that share the requests, at least one
	Standby         []Upstream // used while every one of Upstreams is out; all are of one scheme
	Online          bool
	StatusPage      string // own or inherited template; "" = none
	Answer          Answer // own or inherited
	Compress        bool
	Log             bool
	CertFile        string // own certificate; "" = from ACME
	KeyFile         string
	Headers         []Header // set on answers, in the file's order
	UpstreamTLS     UpstreamTLS
	ResponseTimeout time.Duration // to the upstream's response header, and for a piece of an upload
	MaxBody         int64         // bytes of a request's body; 0 = no limit
	Drain           time.Duration // how long running sessions are served after the flag was switched off; 0 = not at all
	Session         Session       // how to recognize a running session
	Hold            time.Duration // how long requests wait for an upstream that refuses connections; 0 = not at all
	Health          *Health       // how the upstreams are probed; nil = not at all
	AutoOffline     bool          // unhealthy answers as offline; never without Health
}

// Names returns Name and Aliases.
func (h *Host) Names() []string {
	return append([]string{h.Name}, h.Aliases...)
}

// Upstream is where a host's requests are forwarded.
type Upstream struct {
	Scheme  string // "http", "https", "h2c" or "unix"
	Address string // host:port, or the socket's path for unix
}

// Header is one answer header to set; an empty Value removes it.
type Header struct{ Name, Value string }

// UpstreamTLS is a host's upstream_tls table; it matters for https upstreams.
type UpstreamTLS struct {
	CA         string // PEM file of the roots; "" = the system's
	ServerName string // "" = the upstream's host
	Insecure   bool   // do not verify
}

// Session says which signs show that a request belongs to a running session; one
// is enough. If it is empty, no session is recognized.
type Session struct {
	Cookies []string // names; one that ends in "*" is a prefix
	Paths   []string // a path and everything below it: "/cart" is also "/cart/x", not "/cartoon"
	Queries []string // names of query parameters
}

// Health is a host's health table.
type Health struct {
	Path                 string // path and query that is asked for with GET
	Interval             time.Duration
	Timeout              time.Duration // at most Interval
	StatusMin, StatusMax int           // of a healthy answer, both included
	Fails, Passes        int           // this many in a row change the state; at least 1
	PassiveStatus        bool          // answers 502, 503 and 504 to visitors count as fails
}

// Maintenance is one [[maintenance]] entry: either one window, From until Until,
// or windows that begin when Cron says and last For.
type Maintenance struct {
	Line   int       // line of the entry in the file
	Hosts  []string  // canonical Names in the order written; "*" is expanded
	From   time.Time // zero if there is Cron
	Until  time.Time // after From
	Cron   string    // five fields of crontab(5), in Config.TimeZone; "" = one window
	For    time.Duration
	Drain  time.Duration // before the beginning of a window: running sessions may finish
	Reason string        // for people; holds anything, so it must be escaped wherever it is shown

	// Ended says by canonical Name since when a host has been online again: windows
	// that began at or before that moment, drain included, are over for that host.
	Ended map[string]time.Time
}

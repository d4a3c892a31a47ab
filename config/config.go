// Package config turns proxy.toml into a validated, immutable Config, reports
// every mistake of the file at once with its place, and edits single values
// while keeping every other byte. It knows nothing of the other rooms.
package config

import (
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
	Control    Control
	Watch      bool   // reload when the file changes
	Hosts      []Host // in the file's order
}

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
	return m
}

// Listen is the [listen] table.
type Listen struct {
	HTTP           string // address that redirects to https; "" = off
	HTTPS          string // TCP for HTTP/1.1 and 2, UDP for HTTP/3
	HTTP3          bool
	AdvertisePort  int // port in Alt-Svc and redirects; never 0 after Load
	TrustedProxies TrustedProxies
	Grace          time.Duration // how long SIGTERM drains
}

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

// Control is the [control] table.
type Control struct {
	Socket string // path of the unix socket
}

// Host is one entry of [hosts].
type Host struct {
	Key             string   // as written in the file: "blog"
	Name            string   // canonical full name: "blog.udance.com.au"; may start with "*."
	Aliases         []string // further canonical full names
	Line            int      // line of the entry in the file
	Upstream        Upstream
	Online          bool
	StatusPage      string // own or inherited template; "" = none
	Answer          Answer // own or inherited
	Compress        bool
	Log             bool
	CertFile        string // own certificate; "" = from ACME
	KeyFile         string
	Headers         []Header // set on answers, in the file's order
	UpstreamTLS     UpstreamTLS
	ResponseTimeout time.Duration // time to the upstream's response header
	MaxBody         int64         // bytes of a request's body; 0 = no limit
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

package config

import (
	"slices"
	"strings"
	"time"
)

// A key is one key of proxy.toml. The lists below are the only place that names
// the keys: they drive decoding, the defaults, the reference and the hints of
// unknown keys.
type key struct {
	name  string // path in the file; below a host's table for the keys of a host
	value value  // its type, and where it goes
	def   string // default as one would write it; "" = none
	doc   string // one or two sentences for the reference
}

// Key describes one key of the file for people.
type Key struct {
	Name    string // hosts.*.upstream
	Type    string // "duration"
	Default string // as one would write it; "" = none
	Doc     string
}

// These stand before the names of the keys of each host, and of each
// [[maintenance]] entry, in the reference.
const (
	hostPrefix        = "hosts.*."
	maintenancePrefix = "maintenance.*."
)

// Reference returns every key of the file, in the order of the documentation.
func Reference() []Key {
	c := Config{ACME: ACME{Fallback: &Issuer{}}}
	var all []Key
	add := func(prefix string, keys []key) {
		for _, k := range keys {
			all = append(all, Key{Name: prefix + k.name, Type: k.value.typ, Default: k.def, Doc: k.doc})
		}
	}
	add("", c.keys())
	add(maintenancePrefix, new(maintenanceEntry).keys())
	add(hostPrefix, new(hostEntry).keys())
	return all
}

// keys are all keys but those of the hosts and of [[maintenance]]. c.ACME.Fallback must not be nil.
func (c *Config) keys() []key {
	return slices.Concat([]key{
		{"domain", text("host name", &c.Domain, zoneName), "", "Names in [hosts] without a dot live below it; `\"@\"` is the domain itself."},
		{"status_page", text("URL template", &c.StatusPage, optional(statusPage)), "", "Where visitors of an offline host go. `{uri}` is the path and query they asked for, `{host}` the host. A host may have its own; every host needs one."},
		{"watch", boolean(&c.Watch), "false", "Reload when the file changes."},
		{"time_zone", text("time zone", &c.TimeZone, timeZone), `""`, "For date-times without an offset and for cron lines, such as `\"Australia/Sydney\"`. Empty: the system's."},

		{"listen.http", text("address", &c.Listen.HTTP, optional(listenAddress)), `":80"`, "Plain HTTP, which redirects to HTTPS. Empty: off."},
		{"listen.https", text("address", &c.Listen.HTTPS, listenAddress), `":443"`, "TCP for HTTP/1.1 and HTTP/2, UDP for HTTP/3."},
		{"listen.http3", boolean(&c.Listen.HTTP3), "true", "Offer HTTP/3."},
		{"listen.advertise_port", integer("port", &c.Listen.AdvertisePort, 1, 65535), "", "The port visitors use, for `Alt-Svc` and redirects, if a port forward changes it. Without it, the port of `https`."},
		{"listen.engine", choice(&c.Listen.Engine, NetHTTP, Detour), `"detour"`, "What serves HTTP/1.1 and HTTP/2 and speaks to plain upstreams: `detour` is our own engine; `net/http` is the standard library's, which costs more, should ours have a bug."},
		// Idle they take some 450 MiB, which a box with 1 GiB survives. A low limit
		// would protect less: whoever keeps that many busy, by asking slowly, shuts
		// everyone else out, and that should take more than one afternoon's script.
		{"listen.max_connections", integer("count", &c.Listen.MaxConnections, 0, 1_000_000), "16384", "How many connections clients may have open, on `http` and `https` together, WebSockets and HTTP/3 included. Beyond that the longest idle ones make room; if none is idle, new ones wait. An idle one takes about 30 KiB of memory, over HTTP/3 75 KiB. In any case there are no more than a third of the process's limit of open files, and than fit idle into half of the memory it may use, with less than 512 MiB slow ones, of 200 KiB; 0: only these two limits."},
		{"listen.trusted_proxies", trustedProxies(&c.Listen.TrustedProxies), "[]", "Whose `X-Forwarded-For` is believed: networks, `\"cloudflare\"`, `\"private\"`."},
		{"listen.grace", duration(&c.Listen.Grace, 0), `"10s"`, "How long SIGTERM lets running requests finish."},
	},
		issuerKeys("acme.", &c.ACME.Issuer, `"letsencrypt"`),
		[]key{
			{"acme.token_file", file(&c.ACME.TokenFile, secretFile), "", "File with the Cloudflare API token, which needs Zone:Read and DNS:Edit. Without it: `CLOUDFLARE_API_TOKEN`, `CF_API_TOKEN`, or systemd's credential `cloudflare_token`."},
			{"acme.certificates", choice(&c.ACME.Certificates, PerHost, Wildcard), `"per-host"`, "One certificate per host, or one for all hosts directly below the domain."},
			{"acme.storage", text("path", &c.ACME.Storage, nonEmptyPath), `"/var/lib/detour"`, "Directory of certificates and accounts, in the layout of certmagic, which is Caddy's too."},
			{"acme.resolvers", list("name servers", &c.ACME.Resolvers, resolver), "[]", "Name servers that are asked whether the challenge's TXT record is visible; port 53 unless given. Empty: the zone's own."},
		},
		issuerKeys("acme.fallback.", c.ACME.Fallback, ""),
		[]key{
			{"log.dir", text("path", &c.Log.Dir, nonEmptyPath), `"/var/log/detour"`, "Directory of the access logs, one file per host: `blog.log`."},
			{"log.max_size", size(&c.Log.MaxSize, 1<<20), `"100MiB"`, "A file of this size is rotated; at least 1MiB."},
			{"log.keep", integer("count", &c.Log.Keep, 0, 1_000_000), "7", "How many rotated files are kept. 0: all."},
			{"log.max_age", duration(&c.Log.MaxAge, 0), `"90d"`, "Rotated files older than this are deleted. 0s: never."},
			{"log.compress", boolean(&c.Log.Compress), "true", "Compress rotated files with gzip."},
			{"log.mode", mode(&c.Log.Mode), `"0640"`, "Permissions of the files, octal."},
			{"log.redact_query", list("names", &c.Log.RedactQuery, nonEmpty), `["token", "access_token", "key", "password", "code"]`, "Query parameters whose values are logged as `REDACTED`."},

			{"offline.all", boolean(&c.Offline.All), "false", "Every host but those in `except` is offline, whatever its flag says. `detour offline --all` and `detour online --all` change it."},
			{"offline.except", names(), "[]", "Hosts that `all` leaves as they are, by key, name or alias."},
			{"offline.answer", choice(&c.Offline.Answer, Adaptive, Redirect), `"adaptive"`, "How an offline host answers: `adaptive` redirects page loads and tells machines 503; `redirect` sends everyone to the status page with 302."},
			{"offline.retry_after", duration(&c.Offline.RetryAfter, minRetryAfter), `"5m"`, "When clients that got a 503 should come back, unless the end is known."},

			{"bypass.networks", list("networks", &c.Bypass.Networks, bypassNetwork), "[]", "Clients in these networks are proxied although the host is offline."},

			{"notify.url", text("URL", &c.Notify.URL, optional(noticeURL)), "", "Where each notice is sent with POST, such as `https://ntfy.sh/topic`."},
			{"notify.format", choice(&c.Notify.Format, "text", "json"), `"text"`, "The body of that POST."},
			{"notify.command", list("texts", &c.Notify.Command, argument), "[]", "Program and arguments, run for each notice, with the notice as JSON on its standard input and in variables `DETOUR_…`."},
			{"notify.forgotten_after", duration(&c.Notify.ForgottenAfter, 0), `"3h"`, "A host that you took offline, and whose upstream is healthy, is worth a notice after this time. 0s: never."},

			{"control.socket", text("path", &c.Control.Socket, socketPath), `"/run/detour/control.sock"`, "Unix socket by which `detour status`, `reload`, `online` and `offline` reach the running gateway."},
		})
}

func issuerKeys(prefix string, i *Issuer, ca string) []key {
	return []key{
		{prefix + "ca", text("authority", &i.CA, authority), ca, "`letsencrypt`, `letsencrypt-staging`, `zerossl`, `local` (the embedded CA), or the URL of an ACME directory."},
		{prefix + "ca_root", file(&i.CARoot, certificateFile), "", "PEM file with the root of a private ACME server."},
		{prefix + "email", text("address", &i.Email, optional(email)), "", "Contact given to the authority."},
		{prefix + "eab_key_id", text("text", &i.EABKeyID, optional(nonEmpty)), "", "External account binding, as the authority gave it; ZeroSSL needs it."},
		{prefix + "eab_key_file", file(&i.EABKeyFile, secretFile), "", "File with the binding's HMAC key, base64url. Without it: `ACME_EAB_KEY` or systemd's credential `acme_eab_key`."},
	}
}

// keys are the keys of one host.
func (h *hostEntry) keys() []key {
	return []key{
		{"upstream", upstreams(&h.Upstreams), "", "Where requests go: `10.1.1.4`, `10.1.1.4:8080`, `http://…`, `https://…`, `h2c://…` or `unix//path`; the port is 80, or 443 for https, unless given. Several in a list share the requests. Required."},
		{"standby", upstreamList(&h.Standby), "[]", "Upstreams that are used while all of `upstream` are out."},
		{"online", boolean(&h.Online), "true", "The flag: false sends visitors to the status page. `detour offline` and `detour online` change it."},
		{"aliases", names(), "[]", "More names of the same host, short or full."},
		{"status_page", text("URL template", &h.StatusPage, optional(statusPage)), "", "Its own status page. Without it, the `status_page` at the top of the file."},
		{"answer", choice(&h.Answer, Adaptive, Redirect), "", "Its own answer while offline. Without it, `offline.answer`."},
		{"compress", boolean(&h.Compress), "true", "Compress answers with zstd or gzip; event streams are not compressed."},
		{"log", boolean(&h.Log), "true", "Write its access log."},
		{"cert", file(&h.CertFile, certificateFile), "", "PEM file of its own certificate and chain, instead of one from ACME."},
		{"key", file(&h.KeyFile, secretFile), "", "PEM file of the key of `cert`."},
		{"headers", headers(&h.Headers), "{}", "Headers to set on its answers; an empty value removes the header."},
		{"upstream_tls.ca", file(&h.UpstreamTLS.CA, certificateFile), "", "PEM file with the roots to trust for an https upstream. Without it: the system's."},
		{"upstream_tls.server_name", text("host name", &h.UpstreamTLS.ServerName, optional(dnsName)), "", "The upstream's name: in its certificate, and in the `Host` field that it gets. Without it: the upstream's address."},
		{"upstream_tls.insecure", boolean(&h.UpstreamTLS.Insecure), "false", "Do not verify the upstream's certificate."},
		{"response_timeout", duration(&h.ResponseTimeout, 0), `"60s"`, "How long the upstream may take to begin its answer after the end of a request, and to take each piece, at most 64 KiB, of an upload. Long polls, and gRPC streams that begin with silence, may need more. 0s: no limit."},
		{"max_body", size(&h.MaxBody, 0), "0", "Largest body of a request. 0: no limit."},
		{"drain", durationTo(&h.Drain, 0, MaxDrain), `"0s"`, "How long running sessions are still served after the flag was switched off."},
		{"session", readySession(&h.Session), "", "How to recognize a running session: a ready-made set, or a table of its own."},
		{"session.cookies", list("names", &h.Session.Cookies, cookieName), "[]", "Cookies; a name that ends in `*` is a prefix."},
		{"session.paths", list("paths", &h.Session.Paths, sessionPath), "[]", "Paths; each stands for everything below it, too."},
		{"session.queries", list("names", &h.Session.Queries, queryName), "[]", "Query parameters."},
		{"hold", durationTo(&h.Hold, 0, maxHold), `"0s"`, "How long requests wait while the upstream takes no connections. 0s: not at all."},
		{"auto_offline", boolean(&h.AutoOffline), "false", "Answer as if offline while the upstream is unhealthy; needs `health`."},
		{"health.path", text("path", &h.health.Path, probePath), `"/"`, "What a probe asks the upstream for, with GET."},
		{"health.interval", durationTo(&h.health.Interval, time.Second, time.Hour), `"10s"`, "From one probe to the next."},
		{"health.timeout", durationTo(&h.health.Timeout, 10*time.Millisecond, time.Hour), `"5s"`, "How long an answer may take; at most `interval`."},
		{"health.status", statusRange(&h.health.StatusMin, &h.health.StatusMax), `"2xx"`, "The status of a healthy answer: `\"2xx\"`, `\"204\"` or `\"200-399\"`."},
		{"health.fails", integer("count", &h.health.Fails, 1, 100), "3", "This many bad results in a row make an upstream unhealthy."},
		{"health.passes", integer("count", &h.health.Passes, 1, 100), "2", "This many good ones in a row make it healthy again."},
		{"health.passive_status", boolean(&h.health.PassiveStatus), "false", "Count answers 502, 503 and 504 to visitors as bad results, too. A refused connection always counts; a lost one brings a probe."},
	}
}

// keys are the keys of one [[maintenance]] entry.
func (m *maintenanceEntry) keys() []key {
	return []key{
		{"hosts", names(), "", "The hosts to take offline, by key, name or alias; `[\"*\"]` is all hosts. Required."},
		{"from", moment(&m.From, m.zone, false), "", "When it begins: a date-time, with or without offset."},
		{"until", moment(&m.Until, m.zone, true), "", "When it ends."},
		{"cron", text("cron line", &m.Cron, cronLine), "", "Instead of `from` and `until`, when it begins again and again: minute, hour, day, month and weekday, as in crontab(5)."},
		{"for", durationTo(&m.For, time.Second, 366*24*time.Hour), "", "How long it lasts, with `cron`."},
		{"drain", durationTo(&m.Drain, 0, MaxDrain), "", "How long before the beginning only running sessions are served; see `session` of the host."},
		{"reason", text("text", &m.Reason, anyText), "", "Why, for people: visitors see it, and it is in notices and the log."},
		{"ended", endedTimes(), "", "Since when hosts have been online again before the end. `detour online` writes it."},
	}
}

// above returns the table a key stands in: "" for the top of the file.
func above(name string) string {
	i := strings.LastIndexByte(name, '.')
	return name[:max(i, 0)]
}

// base returns the last part of a key's name.
func base(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

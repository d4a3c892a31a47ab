package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// check completes c with the hosts and what they inherit, and finds the
// mistakes that only show when keys are seen together.
func (d *decoder) check(c *Config, hosts []*hostEntry, windows []*maintenanceEntry) {
	d.checkListen(c)
	d.checkACME(c)
	if n := d.root.member("notify", "command"); len(c.Notify.Command) > 0 && c.Notify.Command[0] == "" {
		d.fail(n, errors.New(`names no program; write for example ["/usr/local/bin/notice", "-v"]`))
	}
	names := d.names(c, hosts)
	for _, h := range hosts {
		d.checkHost(c, h)
		c.Hosts = append(c.Hosts, h.Host)
	}
	d.resolvePaths(c)
	if d.broken {
		return // what follows judges what is absent, which may stand in the text that could not be read
	}
	if table := d.root.member("hosts"); table == nil || table.kind == kindTable && len(table.members) == 0 {
		at := d.places.lines[0]
		if table != nil {
			at = table.keyAt
		}
		d.add(at, "hosts", `there is no host to serve; add [hosts] and below it, for example, blog = { upstream = "10.1.1.4" }`)
	}
	if n := d.root.member("offline", "except"); n != nil {
		c.Offline.Except = d.hostList(c, n)
	}
	for _, m := range windows {
		d.checkWindow(c, m)
		c.Maintenance = append(c.Maintenance, m.Maintenance)
	}
	d.checkOverlaps(windows)
	d.checkStatusPages(c, hosts, names)
	for _, m := range windows {
		d.checkWindowLoop(c, m, names)
	}
	for _, h := range hosts {
		d.checkHealthLoop(c, h, names)
	}
}

// given reports whether a key is in the file, and not as an empty text.
func (n *node) given() bool { return n != nil && (n.kind != kindText || n.text != "") }

func (d *decoder) checkListen(c *Config) {
	l := &c.Listen
	_, https, _ := net.SplitHostPort(l.HTTPS)
	if l.AdvertisePort == 0 {
		l.AdvertisePort, _ = strconv.Atoi(https)
	}
	if l.AdvertisePort == 0 {
		l.AdvertisePort = 443 // https = ":0": the system chooses, nobody else can know
	}
	if !sameAddress(l.HTTP, l.HTTPS) {
		return
	}
	if n := d.root.member("listen", "http"); n != nil {
		d.fail(n, errors.New("is the address of https too; each needs its own"))
	} else if n := d.root.member("listen", "https"); n != nil {
		d.fail(n, errors.New(`is the address of http too; move that, or turn it off with http = ""`))
	}
}

// sameAddress reports whether two addresses cannot both be listened on.
func sameAddress(a, b string) bool {
	hostA, portA, _ := net.SplitHostPort(a)
	hostB, portB, _ := net.SplitHostPort(b)
	every := func(host string) bool { return host == "" || host == "0.0.0.0" || host == "::" }
	return portA == portB && portA != "0" && (hostA == hostB || every(hostA) || every(hostB))
}

func (d *decoder) checkACME(c *Config) {
	if n := d.root.member("acme", "certificates"); c.ACME.Certificates == Wildcard && c.Domain == "" && !d.broken && d.root.member("domain") == nil {
		d.fail(n, errors.New(`"wildcard" needs a domain; set domain = "…" at the top of the file`))
	}
	d.checkIssuer(&c.ACME.Issuer, d.root.member("acme"))
	if c.ACME.Fallback != nil {
		n := d.root.member("acme", "fallback")
		if n.kind == kindTable && n.member("ca") == nil && !d.broken {
			d.failKey(n, errors.New(`needs ca: which authority is asked when the first fails, for example ca = "zerossl"`))
		}
		d.checkIssuer(c.ACME.Fallback, n)
	}
}

func (d *decoder) checkIssuer(i *Issuer, table *node) {
	if table == nil || table.kind != kindTable || d.broken {
		return
	}
	id := table.member("eab_key_id").given()
	if ca := table.member("ca"); i.CA == zeroSSL && !id {
		d.fail(ca, errors.New("ZeroSSL needs an external account binding; set eab_key_id and eab_key_file from its developer page"))
	} else if n := table.member("eab_key_file"); n.given() && !id {
		d.fail(n, errors.New("is useless without eab_key_id"))
	}
}

// names fills in the hosts' canonical names and returns who serves each.
func (d *decoder) names(c *Config, hosts []*hostEntry) map[string]*hostEntry {
	if n := d.root.member("domain"); c.Domain == "" && (d.broken || n != nil) {
		// The domain could not be read: every short name would be one more
		// mistake that is none.
		c.Domain = "domain.invalid"
	}
	owner := map[string]*hostEntry{}
	claim := func(h *hostEntry, written string, at int, path string) (string, bool) {
		name, err := hostName(written, c.Domain)
		if err != nil {
			d.add(at, path, err.Error())
			return "", false
		}
		if first := owner[name]; first != nil {
			d.add(at, path, fmt.Sprintf("%s is served twice; the first is %s on line %d", name, quote(first.Key), first.Line))
			return "", false
		}
		owner[name] = h
		return name, true
	}
	for _, h := range hosts {
		h.Name, _ = claim(h, h.Key, h.node.keyAt, h.node.path())
	}
	for _, h := range hosts {
		n := h.node.member("aliases")
		if n == nil || n.kind != kindList {
			continue
		}
		for _, e := range n.members {
			if e.kind != kindText {
				continue // reported already
			}
			if name, ok := claim(h, e.text, e.at, n.path()); ok {
				h.Aliases = append(h.Aliases, name)
			}
		}
	}
	return owner
}

// checkHost checks one host's keys together and inherits what it leaves open.
func (d *decoder) checkHost(c *Config, h *hostEntry) {
	n := h.node
	var first Upstream // zero: there is none that is right
	if len(h.Upstreams) > 0 {
		first = h.Upstreams[0]
	}
	if h.StatusPage == "" {
		h.StatusPage = c.StatusPage
	}
	if h.Answer == "" {
		h.Answer = c.Offline.Answer
	}
	if n.member("upstream") == nil && !d.broken {
		d.failKey(n, errors.New(`needs upstream, for example upstream = "10.1.1.4"`))
	}
	switch cert, key := n.member("cert"), n.member("key"); {
	case cert.given() && !key.given() && !d.broken:
		d.fail(cert, errors.New("needs its key file: set key"))
	case key.given() && !cert.given() && !d.broken:
		d.fail(key, errors.New("is useless without cert"))
	}
	if t := n.member("upstream_tls"); t != nil && first.Scheme != "" && first.Scheme != "https" {
		d.failKey(t, errors.New("is only for https:// upstreams"))
	}
	d.checkUpstreams(h, first)
	d.checkHealth(h)
	if i, ca := n.member("upstream_tls", "insecure"), h.UpstreamTLS.CA; h.UpstreamTLS.Insecure && ca != "" {
		d.fail(i, errors.New("contradicts ca: either the certificate is verified or it is not"))
	}
}

// checkUpstreams compares the upstreams of one host with the first.
func (d *decoder) checkUpstreams(h *hostEntry, first Upstream) {
	check := func(key string, us []Upstream, wrong func(Upstream) error) {
		n := h.node.member(key)
		if n == nil || n.kind != kindList || len(n.members) != len(us) {
			return // one, or one of them is no upstream
		}
		for i, u := range us {
			if err := wrong(u); err != nil {
				d.fail(n.members[i], err)
			}
		}
	}
	scheme := func(u Upstream) error {
		if u.Scheme != first.Scheme && first.Scheme != "" {
			return fmt.Errorf("is reached by %s, the first upstream by %s; all upstreams of a host must have the same scheme", u.Scheme, first.Scheme)
		}
		return nil
	}
	check("upstream", h.Upstreams, scheme)
	check("standby", h.Standby, func(u Upstream) error {
		if slices.Contains(h.Upstreams, u) {
			return errors.New("is in upstream already, so it cannot be a standby")
		}
		return scheme(u)
	})
}

// checkHealth checks what depends on probes.
func (d *decoder) checkHealth(h *hostEntry) {
	if n := h.node.member("auto_offline"); h.AutoOffline && h.Health == nil && !d.broken {
		d.fail(n, errors.New(`needs health, for example health = { path = "/healthz" }: without probes nobody would notice that the upstream is back`))
	}
	if h.Health == nil || h.Health.Timeout <= h.Health.Interval {
		return
	}
	if n := h.node.member("health", "timeout"); n != nil {
		d.fail(n, fmt.Errorf("must not be longer than interval, %s", short(h.Health.Interval)))
		return
	}
	h.Health.Timeout = h.Health.Interval // the usual timeout, with more probes than usual
}

// checkStatusPages finds hosts without a page, and pages that would send
// visitors round in a circle.
func (d *decoder) checkStatusPages(c *Config, hosts []*hostEntry, names map[string]*hostEntry) {
	var none []string
	var first *hostEntry
	for _, h := range hosts {
		switch {
		case h.StatusPage != "":
			d.checkLoop(c, h, names)
		case h.node.member("status_page").given() || d.root.member("status_page").given():
			// there is one, and it was wrong
		default:
			none = append(none, strconv.Quote(h.Key))
			if first == nil {
				first = h
			}
		}
	}
	if first == nil {
		return
	}
	if len(none) > 3 {
		none = append(none[:3:3], "more")
	}
	d.add(first.node.keyAt, first.node.path()+".status_page",
		fmt.Sprintf(`visitors of %s would have nowhere to go when offline; set status_page = "https://…{uri}" at the top of the file`, enumerate(none, "and")))
}

// checkLoop reports an offline host whose status page lies on an offline host
// served here: the redirect would come back for ever.
func (d *decoder) checkLoop(c *Config, h *hostEntry, names map[string]*hostEntry) {
	target, port := pageTarget(h.StatusPage)
	to := servedBy(target, names)
	if to == nil || c.WantsOnline(&h.Host) || c.WantsOnline(&to.Host) || !c.serves(port) {
		return
	}
	n := h.node.member("status_page")
	if all := d.root.member("offline", "all"); c.Offline.All && (h.Online || to.Online) {
		d.fail(all, fmt.Errorf("redirect loop: the status page of %s lies on %s, which is offline itself; add %s to except", quote(h.Key), target, quote(to.Key)))
		return
	}
	if !n.given() {
		n = h.node.member("online")
	}
	what := fmt.Sprintf("lies on %s, which is offline itself", target)
	if to == h {
		what = fmt.Sprintf("lies on this host itself, as %s", target)
	}
	d.fail(n, fmt.Errorf("redirect loop: the status page of %s %s; use a page that this gateway does not serve, or an online host", quote(h.Key), what))
}

// checkHealthLoop reports auto_offline where it would send visitors round in a
// circle: from page to page over hosts that are offline, or can be at the same
// time, back to the host itself.
func (d *decoder) checkHealthLoop(c *Config, h *hostEntry, names map[string]*hostEntry) {
	if !h.AutoOffline || !c.WantsOnline(&h.Host) {
		return // what is offline by the operator's word is reported already
	}
	first, _ := pageTarget(h.StatusPage)
	seen := map[*hostEntry]bool{}
	for at := h; !seen[at]; {
		seen[at] = true
		target, port := pageTarget(at.StatusPage)
		to := servedBy(target, names)
		if to == nil || !c.serves(port) || !c.mayGoOffline(&to.Host) {
			return // visitors arrive there
		}
		if to != h {
			at = to
			continue
		}
		what := "this host itself"
		if at != h {
			what = "a host whose visitors come back here when it is offline, too"
		}
		d.fail(h.node.member("auto_offline"), fmt.Errorf("redirect loop: while the upstream is unhealthy, visitors of %s would be sent to %s, %s; use a status page that this gateway does not serve, or leave auto_offline out",
			quote(h.Key), first, what))
		return
	}
}

// mayGoOffline reports whether the file can take a host offline at some time.
func (c *Config) mayGoOffline(h *Host) bool {
	return h.AutoOffline || !c.WantsOnline(h) || slices.ContainsFunc(c.Maintenance, func(m Maintenance) bool { return slices.Contains(m.Hosts, h.Name) })
}

// serves reports whether a visitor's port is one of this gateway's.
func (c *Config) serves(port string) bool {
	_, http, _ := net.SplitHostPort(c.Listen.HTTP)
	return port == strconv.Itoa(c.Listen.AdvertisePort) || c.Listen.HTTP != "" && (port == "80" || port == http)
}

// servedBy returns the host that answers for a name: as in routing the exact
// one, else the wildcard.
func servedBy(name string, names map[string]*hostEntry) *hostEntry {
	if h := names[name]; h != nil {
		return h
	}
	_, zone, _ := strings.Cut(name, ".")
	return names["*."+zone]
}

// resolvePaths makes relative paths relative to the file they stand in.
func (d *decoder) resolvePaths(c *Config) {
	dir := filepath.Dir(c.File)
	resolve := func(path *string) {
		if *path != "" && !filepath.IsAbs(*path) {
			*path = filepath.Join(dir, *path)
		}
	}
	for _, p := range []*string{&c.ACME.CARoot, &c.ACME.EABKeyFile, &c.ACME.TokenFile, &c.ACME.Storage, &c.Log.Dir, &c.Control.Socket} {
		resolve(p)
	}
	if f := c.ACME.Fallback; f != nil {
		resolve(&f.CARoot)
		resolve(&f.EABKeyFile)
	}
	for i := range c.Hosts {
		h := &c.Hosts[i]
		resolve(&h.CertFile)
		resolve(&h.KeyFile)
		resolve(&h.UpstreamTLS.CA)
	}
	for i := range d.files {
		resolve(&d.files[i].path)
	}
}

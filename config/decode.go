package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// decoder moves a document into a Config by the lists of keys.
type decoder struct {
	*document
	files []fileCheck
}

// fileCheck is a file the configuration names, to be looked at by Load.
type fileCheck struct {
	node *node
	path string
	look func(path string) error
}

// hostEntry is a Host while it is decoded.
type hostEntry struct {
	Host
	health Health // what Host.Health becomes if there is a health table
	node   *node
}

// maintenanceEntry is a Maintenance while it is decoded.
type maintenanceEntry struct {
	Maintenance
	zone *time.Location
	node *node
}

func (d *decoder) fail(n *node, err error) { d.add(n.at, n.path(), err.Error()) }

// failKey is fail where not the value but the key is wrong.
func (d *decoder) failKey(n *node, err error) { d.add(n.keyAt, n.path(), err.Error()) }

// want reports whether n is of one of the kinds, and notes a mistake if not.
func (d *decoder) want(n *node, what string, kinds ...kind) bool {
	if slices.Contains(kinds, n.kind) {
		return true
	}
	if n.listsTables() && slices.Contains(kinds, kindTable) {
		d.fail(n, fmt.Errorf("is one table, not a list of tables; write [%s]", n.path()))
		return false
	}
	d.fail(n, fmt.Errorf("must be %s, not %s", what, n.kind))
	return false
}

// each calls add for every text of a list.
func (d *decoder) each(n *node, what string, add func(string) error) {
	if !d.want(n, "a list of "+what+` in quotes, ["…", "…"]`, kindList) {
		return
	}
	for _, e := range n.members {
		if !d.want(e, "text in quotes", kindText) {
			continue
		}
		if err := add(e.text); err != nil {
			d.fail(e, err)
		}
	}
}

// decode moves the document into a new Config. What it holds where problems
// were found is not meaningful.
func (d *decoder) decode() *Config {
	c := &Config{File: d.file, ACME: ACME{Fallback: &Issuer{}}}
	keys := c.keys()
	setDefaults(keys)
	d.members(d.root, "", keys, "maintenance", "hosts")
	if d.root.member("acme", "fallback") == nil {
		c.ACME.Fallback = nil
	}
	d.check(c, d.hosts(), d.maintenance(c.TimeZone))
	return c
}

// maintenance decodes the [[maintenance]] entries, in the file's order.
func (d *decoder) maintenance(zone *time.Location) []*maintenanceEntry {
	list := d.root.member("maintenance")
	if list == nil {
		return nil
	}
	if list.kind != kindList {
		d.failKey(list, errors.New("is a list of tables; write each as [[maintenance]]"))
		return nil
	}
	var all []*maintenanceEntry
	for _, n := range list.members {
		if !d.want(n, "a table, [[maintenance]]", kindTable) {
			continue
		}
		m := &maintenanceEntry{zone: zone, node: n}
		m.Line = d.places.line(n.keyAt)
		d.members(n, "", m.keys())
		all = append(all, m)
	}
	return all
}

// hosts decodes [hosts], in the file's order.
func (d *decoder) hosts() []*hostEntry {
	table := d.root.member("hosts")
	if table == nil || !d.want(table, `a table of hosts: [hosts], then blog = { upstream = "10.1.1.4" }`, kindTable) {
		return nil
	}
	var prototype hostEntry
	setDefaults(prototype.keys())
	var all []*hostEntry
	for _, n := range table.members {
		if !d.want(n, `a table such as { upstream = "10.1.1.4", online = true }`, kindTable) {
			continue
		}
		if d.unquoted(n, n.key) {
			continue
		}
		h := prototype
		h.Key, h.node, h.Line = n.key, n, d.places.line(n.keyAt)
		d.members(n, "", h.keys())
		if n.member("health") != nil {
			h.Health = &h.health
		}
		all = append(all, &h)
	}
	return all
}

// unquoted reports host names below n that TOML took apart at their dots.
func (d *decoder) unquoted(n *node, name string) (found bool) {
	for _, m := range n.members {
		switch full := name + "." + m.key; {
		case m.kind != kindTable:
		case m.member("upstream") != nil:
			d.failKey(m, fmt.Errorf("a name with dots must be in quotes: %q", full))
			found = true
		case d.unquoted(m, full):
			found = true
		}
	}
	return found
}

// setDefaults sets the keys to their defaults, which are written as in a file
// so that the reference shows the very text that is decoded.
func setDefaults(keys []key) {
	var file strings.Builder
	for _, k := range keys {
		if k.def != "" {
			fmt.Fprintf(&file, "%s = %s\n", k.name, k.def)
		}
	}
	d := &decoder{document: parseDocument("defaults", []byte(file.String()))}
	d.members(d.root, "", keys)
	if err := d.err(); err != nil {
		panic(err) // the lists in keys.go contradict themselves; every test would see it
	}
}

// members decodes the members of table n, whose keys' names begin with prefix.
// Members named in others are decoded elsewhere.
func (d *decoder) members(n *node, prefix string, keys []key, others ...string) {
	for _, m := range n.members {
		name := prefix + m.key
		i := slices.IndexFunc(keys, func(k key) bool { return k.name == name })
		isTable := slices.ContainsFunc(keys, func(k key) bool { return strings.HasPrefix(k.name, name+".") })
		switch {
		case i >= 0 && !strings.Contains(m.key, ".") && !(isTable && m.kind == kindTable): // session is either
			keys[i].value.set(d, m)
		case isTable && !strings.Contains(m.key, "."):
			if d.want(m, "a table", kindTable) {
				d.members(m, name+".", keys)
			}
		case slices.Contains(others, m.key):
		default:
			d.unknown(m, prefix, keys, others)
		}
	}
}

// unknown reports a key that is not in the lists. Its value is never shown: it
// may be a secret someone put here.
func (d *decoder) unknown(n *node, prefix string, keys []key, others []string) {
	var siblings []string
	for _, k := range keys {
		if rest, ok := strings.CutPrefix(k.name, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			siblings = append(siblings, first)
		}
	}
	siblings = append(slices.Compact(siblings), others...)
	near := nearest(n.key, siblings)
	home := elsewhere(n.key)
	message := "unknown key; the keys here are " + enumerate(siblings, "and")
	switch {
	case home == "" && secret(n.key) && !strings.HasSuffix(near, "_file"):
		message = "secrets do not belong in this file; put it into a file of its own and name that here (token_file, eab_key_file, key), or give the Cloudflare token as CLOUDFLARE_API_TOKEN"
	case near != "":
		message = fmt.Sprintf("unknown key; did you mean %q?", near)
	case home != "":
		message = fmt.Sprintf("unknown key; %q belongs %s", n.key, home)
	}
	d.add(n.keyAt, n.path(), message)
}

// elsewhere says where a key of this name belongs, "" if there is none.
func elsewhere(name string) string {
	for _, k := range Reference() {
		switch table := above(k.Name); {
		case base(k.Name) != name:
		case table == "":
			return "at the top of the file, before the first [table]"
		case table+"." == hostPrefix:
			return "to a host, in its table in [hosts]"
		case table+"." == maintenancePrefix:
			return "in a [[maintenance]] entry"
		case strings.HasPrefix(table, hostPrefix):
			return "to a host, in its " + base(table) + " table"
		default:
			return "in [" + table + "]"
		}
	}
	return ""
}

// secret reports whether a key's name says that its value is one.
func secret(key string) bool {
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	for _, word := range []string{"token", "secret", "password", "passwd", "api_key", "apikey", "hmac", "eab_key", "private_key"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// nearest returns the candidate that key is most likely a slip of, "" if none.
func nearest(key string, candidates []string) string {
	key = strings.ToLower(key)
	best, least := "", len(key)+1
	for _, c := range candidates {
		n := distance(key, strings.ToLower(c))
		if n < least && n <= max(1, max(len(key), len(c))/3) { // a third wrong is another word
			best, least = c, n
		}
	}
	return best
}

// distance is the fewest changes from a to b, where a change is one byte more,
// less or other, or two neighbours swapped (optimal string alignment).
func distance(a, b string) int {
	if d := len(a) - len(b); max(d, -d) > 8 {
		return max(d, -d) // too far for anyone's slip; saves the work for absurd keys
	}
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		older, old, row = old, row, older
		row[0] = i + 1
		for j := range len(b) {
			other := old[j]
			if a[i] != b[j] {
				other++
			}
			row[j+1] = min(other, old[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
	}
	return row[len(b)]
}

// enumerate joins words: "a, b and c", with last "and".
func enumerate(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " " + last + " " + words[n]
}

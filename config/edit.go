package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Change is what an edit did to one host. From equals To when the flag already
// was as wanted.
type Change struct {
	Host     string // canonical name
	Key      string // as written in the file
	From, To bool

	// What BringOnline did besides the flag.
	Ended    []Maintenance // windows in force, or in their drain, that are over now for this host
	Excepted bool          // added to offline.except, because offline.all is true
}

// SetOnline returns data with the flag of the given hosts set, and every other
// byte as it was. Hosts are named by key, short or full name, or alias. A flag
// that is absent and has to be false is inserted behind the host's upstream.
//
// Nothing is changed, and the error says why, when data is not valid or would
// not be afterwards (Problems), or when a host is unknown.
func SetOnline(name string, data []byte, hosts []string, online bool) ([]byte, []Change, error) {
	c, d := parse(name, data)
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	chosen, err := c.choose(hosts)
	if err != nil {
		return nil, nil, err
	}
	want := c.meaning()
	var changes []Change
	var edits []edit
	for _, i := range chosen {
		h := &want.Hosts[i]
		changes = append(changes, Change{Host: h.Name, Key: h.Key, From: h.Online, To: online})
		if h.Online != online {
			edits = append(edits, flagEdit(data, d.root.member("hosts", h.Key), online))
			h.Online = online
		}
	}
	if len(edits) == 0 {
		return bytes.Clone(data), changes, nil
	}
	edited := apply(data, edits)
	after, err := Parse(name, edited)
	if err != nil {
		return nil, nil, fmt.Errorf("nothing was changed, because the configuration would not be valid any more: %w", err)
	}
	if !Equal(after, &want) {
		return nil, nil, fmt.Errorf("nothing was changed: the flag cannot be edited safely as %s is written; edit it by hand", name)
	}
	return edited, changes, nil
}

// choose returns the indexes of the hosts named, each once, in the order named.
func (c *Config) choose(hosts []string) ([]int, error) {
	var chosen []int
	var unknown []string
	for _, s := range hosts {
		i := c.index(s)
		switch {
		case i < 0:
			unknown = append(unknown, s)
		case !slices.Contains(chosen, i):
			chosen = append(chosen, i)
		}
	}
	if len(unknown) > 0 {
		return nil, c.unknownHosts(unknown)
	}
	return chosen, nil
}

func (c *Config) index(s string) int {
	if i := slices.IndexFunc(c.Hosts, func(h Host) bool { return h.Key == s }); i >= 0 {
		return i
	}
	name, err := hostName(s, c.Domain)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(c.Hosts, func(h Host) bool { return slices.Contains(h.Names(), name) })
}

func (c *Config) unknownHosts(unknown []string) error {
	var known []string
	for i := range c.Hosts {
		known = append(known, c.Hosts[i].Key)
	}
	var quoted []string
	for _, s := range unknown {
		q := quote(s)
		if near := nearest(s, known); near != "" {
			q += fmt.Sprintf(" (did you mean %q?)", near)
		}
		quoted = append(quoted, q)
	}
	return fmt.Errorf("no host %s in %s; its hosts are %s", enumerate(quoted, "or"), c.File, strings.Join(known, ", "))
}

// edit replaces the bytes from start to end.
type edit struct {
	start, end int
	text       string
}

func apply(data []byte, edits []edit) []byte {
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	var out []byte
	done := 0
	for _, e := range edits {
		out = append(append(out, data[done:e.start]...), e.text...)
		done = e.end
	}
	return append(out, data[done:]...)
}

// flagEdit sets the flag of a valid host.
func flagEdit(data []byte, host *node, online bool) edit {
	value := strconv.FormatBool(online)
	if n := host.member("online"); n != nil {
		return edit{n.at, n.at + len(n.text), value}
	}
	// The new flag goes behind upstream, which every host has, written with the
	// same dotted key and, on a line of its own, the same indentation.
	n := host.member("upstream")
	flag := string(data[n.start:n.keyAt]) + "online = " + value
	if n.inline {
		return edit{n.end, n.end, ", " + flag}
	}
	lineStart := bytes.LastIndexByte(data[:n.start], '\n') + 1
	indent := strings.TrimPrefix(string(data[lineStart:n.start]), string(bom))
	at, eol := endOfLine(data, n.end), "\n"
	if bytes.Contains(data, []byte("\r\n")) {
		eol = "\r\n"
	}
	if at < len(data) && data[at-1] == '\r' {
		at--
	}
	return edit{at, at, eol + indent + flag}
}

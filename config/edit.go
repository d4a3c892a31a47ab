package config

import (
	"fmt"
	"slices"
	"time"
)

// Change is what an edit did to one host. From equals To when the flag already
// was as wanted.
type Change struct {
	Host     string // canonical name
	Key      string // as written in the file
	From, To bool

	// What BringOnline and MoveMaintenance did besides the flag.
	Ended    []Maintenance // windows in force, or in their drain, that are over now for this host
	Excepted bool          // added to offline.except, because offline.all is true
	Over     bool          // a window that was over by itself is marked as ended: nobody waits for the upstream
	Moved    bool          // the window in force has another end
}

// SetOnline returns data with the flag of the given hosts set, and every other
// byte as it was. Hosts are named as for Choose. A flag that is missing and has to
// be false is inserted behind the host's upstream.
//
// Nothing is changed, and the error says why, when data is not valid or would
// not be afterwards (Problems), or when a host is unknown.
func SetOnline(name string, data []byte, hosts []string, online bool) ([]byte, []Change, error) {
	e, changes, err := newHostEdit(name, data, hosts, online, time.Time{})
	if err != nil {
		return nil, nil, err
	}
	return e.revise(name, changes)
}

// hostEdit collects what an edit of some hosts has to change.
type hostEdit struct {
	*document
	config *Config
	want   Config
	now    time.Time
	edits  []edit
}

// newHostEdit begins with the flags of the hosts.
func newHostEdit(name string, data []byte, hosts []string, online bool, now time.Time) (*hostEdit, []Change, error) {
	c, d := parse(name, data)
	if err := d.err(); err != nil {
		return nil, nil, err
	}
	chosen, err := c.Choose(hosts)
	if err != nil {
		return nil, nil, err
	}
	e := &hostEdit{document: d.document, config: c, want: c.meaning(), now: now.Round(0)} // without the monotonic clock, as in a file
	changes := make([]Change, len(chosen))
	for i, h := range chosen {
		changes[i] = Change{Host: h.Name, Key: h.Key, From: h.Online, To: online}
		if h.Online != online {
			e.edits = append(e.edits, flagEdit(data, d.root.member("hosts", h.Key), online))
			e.want.Hosts[c.index(h.Key)].Online = online
		}
	}
	return e, changes, nil
}

func (e *hostEdit) revise(name string, changes []Change) ([]byte, []Change, error) {
	edited, err := revise(name, e.places.data, e.edits, &e.want)
	if err != nil {
		return nil, nil, err
	}
	return edited, changes, nil
}

// revise applies edits to data, if what comes out is valid and means want.
func revise(name string, data []byte, edits []edit, want *Config) ([]byte, error) {
	edited := apply(data, edits)
	if len(edits) == 0 {
		return edited, nil
	}
	after, err := Parse(name, edited)
	if err != nil {
		return nil, fmt.Errorf("nothing was changed, because the configuration would not be valid any more: %w", err)
	}
	if !Equal(after, want) {
		return nil, fmt.Errorf("nothing was changed: this cannot be edited safely as %s is written; edit it by hand", name)
	}
	return edited, nil
}

// Choose returns the hosts named by key, short or full name, or alias, each once,
// in the order named. The error says which names no host has.
func (c *Config) Choose(named []string) ([]*Host, error) {
	var chosen []*Host
	var unknown []string
	for _, s := range named {
		i := c.index(s)
		if i < 0 {
			unknown = append(unknown, s)
		} else if h := &c.Hosts[i]; !slices.Contains(chosen, h) {
			chosen = append(chosen, h)
		}
	}
	if len(unknown) > 0 {
		return nil, fmt.Errorf("%s: %w", c.File, c.noHost(unknown...))
	}
	return chosen, nil
}

func (c *Config) index(s string) int {
	if i := slices.IndexFunc(c.Hosts, func(h Host) bool { return h.Key == s }); i >= 0 {
		return i
	}
	name, err := c.FullName(s)
	if err != nil {
		return -1
	}
	return slices.IndexFunc(c.Hosts, func(h Host) bool { return slices.Contains(h.Names(), name) })
}

// noHost is the error of names that no host has, with the ones that may have been
// meant.
func (c *Config) noHost(names ...string) error {
	var known []string
	for i := range c.Hosts {
		known = append(known, c.Hosts[i].Key)
	}
	var quoted []string
	sure := true // what was meant
	for _, s := range names {
		q := quote(s)
		if near := nearest(s, known); near != "" {
			q += fmt.Sprintf(" (did you mean %q?)", near)
		} else {
			sure = false
		}
		quoted = append(quoted, q)
	}
	hosts := ""
	if !sure {
		const enough = 8 // a line of hosts; more would not help
		if len(known) > enough {
			known = append(known[:enough:enough], "more")
		}
		hosts = "; the hosts are " + enumerate(known, "and")
	}
	return fmt.Errorf("there is no host %s%s", enumerate(quoted, "or"), hosts)
}

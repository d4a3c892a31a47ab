package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"detour/state"
)

// Plan is what the entry means for one of its hosts; zone is Config.TimeZone.
// There is an error only for a cron line that Load would not take.
func (m *Maintenance) Plan(host string, zone *time.Location) (state.Plan, error) {
	plan := state.Plan{From: m.From, Until: m.Until, Location: zone, For: m.For, Drain: m.Drain, Reason: m.Reason, Ended: m.Ended[host]}
	if m.Cron != "" {
		schedule, err := parseCron(m.Cron)
		if err != nil {
			return state.Plan{}, fmt.Errorf("maintenance: cron %q: %w", m.Cron, err)
		}
		plan.Cron = schedule
	}
	return plan, nil
}

// hostList returns the canonical names of the hosts that a list names.
func (d *decoder) hostList(c *Config, n *node) []string {
	if n.kind != kindList {
		return nil // reported already
	}
	var all []string
	for _, e := range n.members {
		if e.kind != kindText {
			continue
		}
		i := c.index(e.text)
		switch {
		case i < 0 && e.text == "*" && n.key == "hosts":
			d.fail(e, errors.New(`"*" stands alone: hosts = ["*"] is all hosts`))
		case i < 0:
			d.fail(e, c.noHost(e.text))
		case slices.Contains(all, c.Hosts[i].Name):
			d.fail(e, fmt.Errorf("%s is %s, which is named already", quote(e.text), quote(c.Hosts[i].Key)))
		default:
			all = append(all, c.Hosts[i].Name)
		}
	}
	return all
}

// everyHost reports whether an entry is for all hosts: hosts = ["*"].
func (m *maintenanceEntry) everyHost() bool {
	n := m.node.member("hosts")
	return n != nil && len(n.members) == 1 && n.members[0].text == "*"
}

// checkWindow completes an entry and checks it by itself.
func (d *decoder) checkWindow(c *Config, m *maintenanceEntry) {
	n := m.node
	hosts := n.member("hosts")
	switch {
	case hosts == nil:
		d.failKey(n, errors.New(`needs hosts, for example hosts = ["shop"], or hosts = ["*"] for all`))
	case hosts.kind == kindList && len(hosts.members) == 0:
		d.fail(hosts, errors.New(`names no host; write hosts = ["*"] for all`))
	case m.everyHost():
		for i := range c.Hosts {
			if name := c.Hosts[i].Name; name != "" { // a wrong one, reported already
				m.Hosts = append(m.Hosts, name)
			}
		}
	default:
		m.Hosts = d.hostList(c, hosts)
	}
	d.checkTimes(m)
	if ended := n.member("ended"); ended != nil && ended.kind == kindTable {
		d.readEnded(c, m, ended)
	}
}

// checkTimes checks that an entry is one window, or windows by a cron line.
func (d *decoder) checkTimes(m *maintenanceEntry) {
	n := m.node
	from, until, line, length := n.member("from"), n.member("until"), n.member("cron"), n.member("for")
	switch {
	case line != nil:
		for _, other := range []*node{from, until} {
			if other != nil {
				d.fail(other, errors.New("contradicts cron: an entry is one window with from and until, or windows with cron and for; write two entries"))
			}
		}
		if length == nil {
			d.failKey(line, errors.New(`needs for, how long each window lasts, for example for = "30m"`))
		}
		if gap := leastGap(m.Cron); m.Cron != "" && m.For+m.Drain >= gap {
			d.fail(line, fmt.Errorf("begins again after %s, and for and drain together are not shorter; the hosts would never come back", short(gap)))
		}
	case length != nil:
		d.fail(length, errors.New("is only for cron; with from, write until"))
	case from == nil && until == nil:
		d.failKey(n, errors.New(`needs from and until, or cron and for`))
	case from == nil:
		d.failKey(until, errors.New("needs from, when the window begins"))
	case until == nil:
		d.failKey(from, errors.New("needs until, when the window ends; if no end is in sight, use detour offline without a time"))
	case m.From.IsZero() || m.Until.IsZero(): // reported already
	case !m.Until.After(m.From):
		d.fail(until, errors.New("the window ends before it begins; until must be after from"))
	}
}

// readEnded reads ended, whose keys are hosts of the entry.
func (d *decoder) readEnded(c *Config, m *maintenanceEntry, n *node) {
	m.Ended = map[string]time.Time{}
	for _, e := range n.members {
		if e.kind != kindDate {
			continue
		}
		i := c.index(e.key)
		if i < 0 {
			d.failKey(e, c.noHost(e.key))
			continue
		}
		name := c.Hosts[i].Name
		t, err := ParseMoment(e.text, m.zone, true)
		switch _, twice := m.Ended[name]; {
		case err != nil:
			d.fail(e, err)
		case twice:
			d.failKey(e, fmt.Errorf("%s is %s, which is named already", quote(e.key), quote(c.Hosts[i].Key)))
		case len(m.Hosts) > 0 && !slices.Contains(m.Hosts, name):
			d.failKey(e, errors.New("is not one of the hosts of this entry"))
		default:
			m.Ended[name] = t
		}
	}
}

// end is when a one-shot window is over for a host.
func (m *Maintenance) end(host string) time.Time {
	ended, ok := m.Ended[host]
	if !ok || ended.Before(m.From.Add(-m.Drain)) || ended.After(m.Until) {
		return m.Until
	}
	return ended
}

// checkOverlaps finds hosts that have two one-shot windows at the same time,
// which has no sense: one of them is a slip, or they are one. A window of all
// hosts may lie over a window of some.
func (d *decoder) checkOverlaps(windows []*maintenanceEntry) {
	var once []*maintenanceEntry
	for _, m := range windows {
		if !m.From.IsZero() && m.Until.After(m.From) {
			once = append(once, m)
		}
	}
	slices.SortStableFunc(once, func(a, b *maintenanceEntry) int { return a.From.Compare(b.From) })
	type last struct { // of the windows of a host so far, the one that ends last
		end time.Time
		m   *maintenanceEntry
	}
	some, every := map[string]last{}, map[string]last{}
	for _, m := range once {
		of := some
		if m.everyHost() {
			of = every
		}
		var over *maintenanceEntry
		for _, host := range m.Hosts {
			end, before := m.end(host), of[host]
			if before.end.After(m.From) && end.After(m.From) && over == nil {
				over = before.m
			}
			if end.After(before.end) {
				of[host] = last{end, m}
			}
		}
		if over != nil {
			d.fail(m.node.member("from"), fmt.Errorf("overlaps the window of the same host on line %d, which ends at %s; make them one, or begin after that",
				over.Line, over.Until.In(m.zone).Format(time.RFC3339)))
		}
	}
}

// checkWindowLoop reports a window that takes a host offline together with the
// host its status page lies on: the redirect would come back for ever.
func (d *decoder) checkWindowLoop(c *Config, m *maintenanceEntry, names map[string]*hostEntry) {
	for _, name := range m.Hosts {
		h := names[name]
		if h == nil {
			continue // its name is wrong
		}
		target, port := pageTarget(h.StatusPage)
		to := servedBy(target, names)
		if h.StatusPage == "" || to == nil || !c.serves(port) {
			continue
		}
		off := !c.WantsOnline(&to.Host)
		if off && !c.WantsOnline(&h.Host) {
			continue // reported already
		}
		if off || slices.Contains(m.Hosts, to.Name) {
			d.fail(m.node.member("hosts"), fmt.Errorf("redirect loop: the status page of %s lies on %s, which is offline then, too; leave %s out, or use a page that this gateway does not serve",
				quote(h.Key), target, strconv.Quote(to.Key)))
			return
		}
	}
}

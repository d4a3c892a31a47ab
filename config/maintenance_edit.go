package config

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"detour/state"
)

// AddMaintenance returns data with one more [[maintenance]] entry, and every other
// byte as it was. The hosts of m are keys, names or aliases, or "*" alone for
// all of them. Its times are written in whole seconds, with the offset of the
// file's time_zone; Line and Ended are ignored.
//
// If a window of exactly these hosts is in force when m begins, and m ends later,
// that window is extended instead: so an operator asks for more time in the same
// way as for the first.
//
// The error is Problems if the entry makes no sense in this file.
func AddMaintenance(name string, data []byte, m Maintenance) ([]byte, error) {
	c, d := parse(name, data)
	if err := d.err(); err != nil {
		return nil, err
	}
	want := c.meaning()
	var keys []string
	if slices.Equal(m.Hosts, []string{"*"}) {
		keys, m.Hosts = m.Hosts, nil
		for i := range c.Hosts {
			m.Hosts = append(m.Hosts, c.Hosts[i].Name)
		}
	} else {
		chosen, err := c.Choose(m.Hosts)
		if err != nil {
			return nil, err
		}
		m.Hosts = nil
		for _, h := range chosen {
			key := h.Key
			if key == "*" { // would be all hosts
				key = h.Name
			}
			keys, m.Hosts = append(keys, key), append(m.Hosts, h.Name)
		}
	}
	m.Line, m.Ended = 0, nil
	m.From, m.Until = m.From.Truncate(time.Second), m.Until.Truncate(time.Second)
	m.Reason = strings.ToValidUTF8(m.Reason, string(utf8.RuneError))

	if i := c.prolonged(&m); i >= 0 {
		entry := d.root.member("maintenance").members[i]
		edits := want.Maintenance[i].move(Maintenance{Until: m.Until, Reason: m.Reason}, data, entry, c.TimeZone)
		return revise(name, data, edits, &want)
	}
	members := m.members(keys, c.TimeZone)
	list := d.root.member("maintenance")
	if list == nil || list.listsTables() {
		want.Maintenance = append(want.Maintenance, m)
		return revise(name, data, []edit{appendTable(data, "[[maintenance]]", members)}, &want)
	}
	want.Maintenance = slices.Insert(want.Maintenance, 0, m)
	text := "{ " + strings.Join(members, ", ") + " }"
	if len(list.members) > 0 {
		text += ", "
	}
	return revise(name, data, []edit{{list.at + 1, list.at + 1, text}}, &want)
}

// prolonged returns the index of the window that m extends, -1 if there is none.
func (c *Config) prolonged(m *Maintenance) int {
	return slices.IndexFunc(c.Maintenance, func(w Maintenance) bool {
		if w.Cron != "" || len(w.Hosts) != len(m.Hosts) || m.From.Before(w.From) || !m.Until.After(w.Until) {
			return false
		}
		return !slices.ContainsFunc(m.Hosts, func(host string) bool {
			_, ok := w.inForce(host, c.TimeZone, m.From)
			return !ok
		})
	})
}

// members are the lines of an entry for the hosts of these keys.
func (m *Maintenance) members(keys []string, zone *time.Location) []string {
	list := []string{"hosts  = " + tomlTexts(keys)}
	add := func(given bool, key, value string) {
		if given {
			list = append(list, key+" = "+value)
		}
	}
	add(!m.From.IsZero(), "from  ", m.From.In(zone).Format(time.RFC3339))
	add(!m.Until.IsZero(), "until ", m.Until.In(zone).Format(time.RFC3339))
	add(m.Cron != "", "cron  ", tomlText(m.Cron))
	add(m.For != 0, "for   ", tomlText(short(m.For)))
	add(m.Drain != 0, "drain ", tomlText(short(m.Drain)))
	add(m.Reason != "", "reason", tomlText(m.Reason))
	return list
}

// appendTable puts a table at the end of the file, below an empty line.
func appendTable(data []byte, header string, members []string) edit {
	eol := lineEnd(data)
	text := header + eol + strings.Join(members, eol) + eol
	if !strings.HasSuffix(string(data), eol+eol) {
		text = eol + text
	}
	if data[len(data)-1] != '\n' { // a valid file is not empty
		text = eol + text
	}
	return edit{len(data), len(data), text}
}

// BringOnline returns data changed so that the given hosts are online at now. Flags
// that are false become true, hosts that offline.all takes offline are added to
// offline.except, and windows that are in force, or in their drain, end for these
// hosts; later windows stay. A window that has just ended by itself is marked as
// ended, too, so that a gateway that starts does not wait for the upstream. Every
// other byte is as it was.
//
// Hosts are named as in SetOnline, and the errors are the same. All are changed
// or none.
func BringOnline(name string, data []byte, hosts []string, now time.Time) ([]byte, []Change, error) {
	e, changes, err := newHostEdit(name, data, hosts, true, now)
	if err != nil {
		return nil, nil, err
	}
	e.except(changes)
	for i := range e.config.Maintenance {
		e.endWindow(i, changes, true)
	}
	return e.revise(name, changes)
}

// except excepts the hosts from offline.all.
func (e *hostEdit) except(changes []Change) {
	if !e.config.Offline.All {
		return
	}
	var keys, names []string
	for i := range changes {
		ch := &changes[i]
		if !slices.Contains(e.config.Offline.Except, ch.Host) {
			ch.Excepted = true
			keys, names = append(keys, ch.Key), append(names, ch.Host)
		}
	}
	if len(keys) == 0 {
		return
	}
	e.want.Offline.Except = slices.Concat(names, e.config.Offline.Except)
	data, list := e.places.data, e.root.member("offline", "except")
	if list == nil {
		e.edits = append(e.edits, insertOffline(data, e.root, "except = "+tomlTexts(keys)))
		return
	}
	e.edits = append(e.edits, insertExceptions(data, list, keys))
}

// endWindow ends the i-th [[maintenance]] entry for those hosts for which a window
// of it is in force or, if over is true, has just ended.
func (e *hostEdit) endWindow(i int, changes []Change, over bool) {
	m, entry := &e.config.Maintenance[i], e.root.member("maintenance").members[i]
	ended := entry.member("ended")
	var missing []string
	for j := range changes {
		ch := &changes[j]
		begin, ok := m.inForce(ch.Host, e.config.TimeZone, e.now)
		switch {
		case ok:
			ch.Ended = append(ch.Ended, *m)
		case over && m.justOver(ch.Host, e.config.TimeZone, e.now):
			ch.Over = true
		default:
			continue
		}
		at := e.now.Truncate(time.Second)
		if at.Before(begin) { // a window that began within this second
			at = e.now
		}
		if e.want.Maintenance[i].Ended == nil {
			e.want.Maintenance[i].Ended = map[string]time.Time{}
		}
		e.want.Maintenance[i].Ended[ch.Host] = at

		text := at.In(e.config.TimeZone).Format(time.RFC3339Nano)
		if n := e.endedMember(ended, ch.Host); n != nil {
			e.edits = append(e.edits, setValue(n, text))
		} else {
			missing = append(missing, tomlKey(ch.Key)+" = "+text)
		}
	}
	if len(missing) == 0 {
		return
	}
	if ended == nil {
		ended, missing = entry, []string{"ended  = { " + strings.Join(missing, ", ") + " }"}
	}
	added, _ := insert(e.places.data, ended, "", missing...) // where it cannot, revise refuses
	e.edits = append(e.edits, added)
}

// endedMember is the member of ended for a host, by whatever name it stands there.
func (e *hostEdit) endedMember(ended *node, host string) *node {
	if ended == nil {
		return nil
	}
	for _, n := range ended.members {
		if i := e.config.index(n.key); i >= 0 && e.config.Hosts[i].Name == host {
			return n
		}
	}
	return nil
}

// inForce reports whether a window of the entry takes a host offline at now, or
// drains it, and when that began.
func (m *Maintenance) inForce(host string, zone *time.Location, now time.Time) (begin time.Time, ok bool) {
	if !slices.Contains(m.Hosts, host) {
		return begin, false
	}
	plan, err := m.Plan(host, zone)
	if err != nil {
		return begin, false
	}
	w, ok := plan.Near(now)
	return w.Begin(), ok && w.Serving(now) != state.Online
}

// justOver reports whether a window of the entry ended a short time before now.
func (m *Maintenance) justOver(host string, zone *time.Location, now time.Time) bool {
	if !slices.Contains(m.Hosts, host) {
		return false
	}
	plan, err := m.Plan(host, zone)
	if err != nil {
		return false
	}
	_, ok := plan.JustOver(now)
	return ok
}

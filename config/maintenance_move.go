package config

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// MoveMaintenance returns data changed so that windows of m.Hosts alone, which are
// in force or in their drain at now, end at m.Until instead; Moved is true in the
// changes of their hosts. Whatever else keeps the hosts offline ends as by
// BringOnline, except for offline.all: the caller adds windows for the hosts that
// were not moved. Every other byte is as it was.
//
// The reason stays unless m has one. A drain that is under way stays, too,
// unless m.From is set: then m.From and m.Drain take its place.
//
// Hosts are named as in SetOnline, and the errors are the same.
func MoveMaintenance(name string, data []byte, m Maintenance, now time.Time) ([]byte, []Change, error) {
	e, changes, err := newHostEdit(name, data, m.Hosts, true, now)
	if err != nil {
		return nil, nil, err
	}
	m.From, m.Until = m.From.Truncate(time.Second), m.Until.Truncate(time.Second)
	m.Reason = strings.ToValidUTF8(m.Reason, string(utf8.RuneError))
	moved := e.ownWindows(changes)
	for i := range e.config.Maintenance {
		if !slices.Contains(moved, i) {
			e.endWindow(i, changes, false)
			continue
		}
		to := m
		if !e.want.Maintenance[i].From.After(e.now) {
			to.From = time.Time{} // nobody is let in again
		}
		entry := e.root.member("maintenance").members[i]
		e.edits = append(e.edits, e.want.Maintenance[i].move(to, data, entry, e.config.TimeZone)...)
	}
	return e.revise(name, changes)
}

// ownWindows returns the indices of entries with times that are in force for hosts
// of changes and no others, at most one for each host, and marks these hosts as
// Moved. Of two entries the one that began first counts: it is the stricter.
func (e *hostEdit) ownWindows(changes []Change) (own []int) {
	list := e.config.Maintenance
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return list[i].From.Compare(list[j].From) })
	for _, i := range order {
		var hosts []int // in changes
		others := list[i].Cron != ""
		for _, host := range list[i].Hosts {
			if _, ok := list[i].inForce(host, e.config.TimeZone, e.now); !ok {
				continue
			}
			at := slices.IndexFunc(changes, func(ch Change) bool { return ch.Host == host && !ch.Moved })
			others = others || at < 0
			hosts = append(hosts, at)
		}
		if others || len(hosts) == 0 {
			continue
		}
		own = append(own, i)
		for _, at := range hosts {
			changes[at].Moved = true
		}
	}
	return own
}

// move gives the window, written as entry, the end of to, and its reason, beginning
// and drain where it has these. It returns the edits.
func (m *Maintenance) move(to Maintenance, data []byte, entry *node, zone *time.Location) []edit {
	m.Until = to.Until
	edits := []edit{setValue(entry.member("until"), to.Until.In(zone).Format(time.RFC3339))}
	if !to.From.IsZero() {
		edits = append(edits, setValue(entry.member("from"), to.From.In(zone).Format(time.RFC3339)))
		if to.Drain != m.Drain {
			edits = append(edits, setMember(data, entry, "drain", tomlText(short(to.Drain))))
		}
		m.From, m.Drain = to.From, to.Drain
	}
	if to.Reason != "" && to.Reason != m.Reason {
		edits = append(edits, setMember(data, entry, "reason", tomlText(to.Reason)))
		m.Reason = to.Reason
	}
	return edits
}

package config

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// allMark stands behind the lines that SetAll adds, which SetAll takes away
// again: so the file is afterwards what it was before, and whoever reads it
// meanwhile knows why everything is offline.
const allMark = "  # detour offline --all"

// SetAll returns data with offline.all set, and offline.except unless except is
// nil, and every other byte as it was. The flags of the hosts stay, so all =
// false restores who was online before. What SetAll and BringOnline added goes
// again; an except of the operator's own stays when except is nil.
//
// Hosts are named as in SetOnline, and the errors are the same.
func SetAll(name string, data []byte, all bool, except []string) ([]byte, error) {
	c, d := parse(name, data)
	if err := d.err(); err != nil {
		return nil, err
	}
	chosen, err := c.Choose(except)
	if err != nil {
		return nil, err
	}
	var keys, names []string
	for _, h := range chosen {
		keys, names = append(keys, h.Key), append(names, h.Name)
	}
	want := c.meaning()
	table := d.root.member("offline")
	var edits []edit
	var lines []*node // to take away
	var missing []string

	// What SetAll added for all = true goes again with all = false.
	goes := func(n *node) bool { return n != nil && !all && marked(data, n) }
	n := table.member("all")
	switch {
	case goes(n):
		lines = append(lines, n)
	case n != nil && c.Offline.All != all:
		edits = append(edits, setValue(n, strconv.FormatBool(all)))
	case n == nil && all:
		missing = append(missing, "all = true")
	}
	want.Offline.All = all

	n = table.member("except")
	switch {
	case goes(n) && len(names) == 0:
		lines = append(lines, n)
		want.Offline.Except = nil
	case n != nil && except == nil && !all:
		removed, rest := removeExceptions(data, n, c.Offline.Except)
		edits = append(edits, removed...)
		want.Offline.Except = rest
	case except == nil || slices.Equal(c.Offline.Except, names):
	case n != nil:
		edits = append(edits, setValue(n, tomlTexts(keys)))
		want.Offline.Except = names
	default:
		missing = append(missing, "except = "+tomlTexts(keys))
		want.Offline.Except = names
	}

	edits = append(edits, removeLines(data, lines)...)
	if len(missing) > 0 {
		edits = append(edits, insertOffline(data, d.root, missing...))
	}
	return revise(name, data, edits, &want)
}

// insertOffline adds members to [offline], which may be absent.
func insertOffline(data []byte, root *node, members ...string) edit {
	if table := root.member("offline"); table != nil {
		if e, ok := insert(data, table, allMark, members...); ok {
			return e
		}
	}
	dotted := make([]string, len(members))
	for i, m := range members {
		dotted[i] = "offline." + m
	}
	e, _ := insert(data, root, allMark, dotted...)
	return e
}

// insertExceptions adds hosts to offline.except. In a list of the operator's own
// each gets a line with the mark.
func insertExceptions(data []byte, list *node, keys []string) edit {
	var text strings.Builder
	for _, key := range keys {
		if marked(data, list) { // goes as a whole
			text.WriteString(tomlText(key) + ", ")
		} else {
			text.WriteString(exception(key) + lineEnd(data))
		}
	}
	return edit{list.at + 1, list.at + 1, text.String()}
}

// removeExceptions takes away what insertExceptions added to a list of the
// operator's own, of which names is the meaning. rest is what stays.
func removeExceptions(data []byte, list *node, names []string) (edits []edit, rest []string) {
	for i, n := range list.members {
		end := endOfText(data, n.at)
		if string(data[n.at:end]) == exception(n.text) {
			edits = append(edits, edit{n.at, endOfLine(data, end) + 1, ""})
		} else {
			rest = append(rest, names[i])
		}
	}
	return edits, rest
}

func exception(key string) string { return tomlText(key) + "," + allMark }

// marked reports whether a member stands on a line of its own that SetAll added.
func marked(data []byte, n *node) bool {
	return !n.inline && string(data[n.end:endOfText(data, n.end)]) == allMark
}

// removeLines takes away the lines that members stand on.
func removeLines(data []byte, members []*node) []edit {
	slices.SortFunc(members, func(a, b *node) int { return a.start - b.start })
	var edits []edit
	for _, n := range members {
		start := bytes.LastIndexByte(data[:n.start], '\n') + 1
		if start == 0 && bytes.HasPrefix(data, bom) {
			start = len(bom)
		}
		end := min(endOfLine(data, n.end)+1, len(data))
		if i := len(edits) - 1; i >= 0 && edits[i].end == start {
			edits[i].end = end
		} else {
			edits = append(edits, edit{start, end, ""})
		}
	}
	// A last line without an end had been put behind one without an end.
	if i := len(edits) - 1; i >= 0 && edits[i].end == len(data) && data[len(data)-1] != '\n' {
		edits[i].start = max(0, endOfText(data, max(0, edits[i].start-1)))
	}
	return edits
}

package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// edit replaces the bytes from start to end.
type edit struct {
	start, end int
	text       string
}

// apply returns data with the edits made, which must not overlap. Insertions at
// one place stay in their order.
func apply(data []byte, edits []edit) []byte {
	slices.SortStableFunc(edits, func(a, b edit) int { return a.start - b.start })
	var out []byte
	done := 0
	for _, e := range edits {
		out = append(append(out, data[done:e.start]...), e.text...)
		done = e.end
	}
	return append(out, data[done:]...)
}

// setValue replaces the value of a member.
func setValue(n *node, value string) edit { return edit{n.at, n.end, value} }

// setMember sets a member of a table to a value, whether it is there or not. The
// table must have another one.
func setMember(data []byte, table *node, key, value string) edit {
	if n := table.member(key); n != nil {
		return setValue(n, value)
	}
	e, _ := insert(data, table, "", key+" = "+value)
	return e
}

// flagEdit sets the flag of a valid host.
func flagEdit(data []byte, host *node, online bool) edit {
	value := strconv.FormatBool(online)
	if n := host.member("online"); n != nil {
		return setValue(n, value)
	}
	return insertBehind(data, host.member("upstream"), "", "online = "+value) // every host has an upstream
}

// insert adds members, each "key = value", to a table, however that is written;
// where they stand on lines of their own, comment stands behind each. It reports
// false where the table has no place of its own to put them.
func insert(data []byte, table *node, comment string, members ...string) (edit, bool) {
	var last *node // of the members that stand where new ones can
	for _, m := range table.members {
		if m.end > 0 {
			last = m
		}
	}
	switch {
	case last != nil:
		return insertBehind(data, last, comment, members...), true
	case table.origin == byInline:
		return edit{table.at + 1, table.at + 1, " " + strings.Join(members, ", ") + " "}, true
	case table.parent == nil:
		start := 0
		if bytes.HasPrefix(data, bom) {
			start = len(bom)
		}
		eol := lineEnd(data)
		return edit{start, start, strings.Join(members, comment+eol) + comment + eol}, true
	case table.origin == byHeader:
		at := endOfText(data, table.at)
		eol := lineEnd(data)
		return edit{at, at, eol + strings.Join(members, comment+eol) + comment}, true
	}
	return edit{}, false
}

// insertBehind adds members behind their sibling n, written with the same dotted
// key and, on lines of their own, the same indentation.
func insertBehind(data []byte, n *node, comment string, members ...string) edit {
	prefix := string(data[n.start:n.keyAt])
	if n.inline {
		return edit{n.end, n.end, ", " + prefix + strings.Join(members, ", "+prefix)}
	}
	lineStart := bytes.LastIndexByte(data[:n.start], '\n') + 1
	indent := strings.TrimPrefix(string(data[lineStart:n.start]), string(bom))
	var text strings.Builder
	for _, m := range members {
		text.WriteString(lineEnd(data) + indent + prefix + m + comment)
	}
	at := endOfText(data, n.end)
	return edit{at, at, text.String()}
}

// lineEnd is how lines of data end.
func lineEnd(data []byte) string {
	if bytes.Contains(data, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// endOfText is where the line of offset at ends, before its line end.
func endOfText(data []byte, at int) int {
	end := endOfLine(data, at)
	if end < len(data) && end > 0 && data[end-1] == '\r' {
		end--
	}
	return end
}

// tomlKey writes a key.
func tomlKey(s string) string {
	if bareKey.MatchString(s) {
		return s
	}
	return tomlText(s)
}

// tomlText writes any text as a basic string on one line (TOML 1.0, "String").
// What is not UTF-8 cannot stand in TOML and is replaced.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r >= 0x7f && r < 0xa0: // the rest of the control characters
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// tomlTexts writes a list of texts.
func tomlTexts(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = tomlText(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

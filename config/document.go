package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// kind is what a value is in TOML, in the operator's words.
type kind string

const (
	kindText   kind = "text"
	kindBool   kind = "true or false"
	kindNumber kind = "a whole number"
	kindFloat  kind = "a fraction"
	kindDate   kind = "a date or time"
	kindList   kind = "a list"
	kindTable  kind = "a table"
)

// origin is how a table came to be, which decides what may still add to it
// (TOML 1.0, "Table" and "Dotted keys").
type origin int

const (
	byInline origin = iota // { … }: complete
	byHeader               // its own [header], or the [[headers]] of a list
	byParent               // only as the way to [a.deeper.header]
	byDots                 // dotted keys
)

// node is a value of the document and its place. Offsets count bytes of the
// whole file.
type node struct {
	parent  *node
	key     string // "" for the root and for elements of a list
	kind    kind
	origin  origin // of a table, or of a list of tables
	text    string // a text's content, every other scalar as written
	members []*node
	index   map[string]*node // members of a table by key

	at    int // first byte of the value; of a [header]'s table, of its key
	keyAt int // first byte of the last part of the key
	// The whole `key = value`, for edits: where it starts and ends, and whether
	// it stands inside an inline table.
	start, end int
	inline     bool
}

// member returns the member of a table, nil if n is nil or has none of that key.
func (n *node) member(path ...string) *node {
	for _, key := range path {
		if n == nil {
			return nil
		}
		n = n.index[key]
	}
	return n
}

// listsTables reports whether n is the list of [[headers]].
func (n *node) listsTables() bool { return n.kind == kindList && n.origin == byHeader }

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// path is the key as one would write it: hosts."git.example.org".upstream.
func (n *node) path() string {
	var parts []string
	for ; n != nil && n.parent != nil; n = n.parent {
		if n.parent.kind != kindTable {
			continue
		}
		key := n.key
		if !bareKey.MatchString(key) {
			key = strconv.Quote(key)
		}
		parts = append(parts, key)
	}
	slices.Reverse(parts)
	return strings.Join(parts, ".")
}

func newTable(o origin) *node {
	return &node{kind: kindTable, origin: o, index: map[string]*node{}}
}

// adopt makes child a member of the table n.
func (n *node) adopt(key string, child *node) *node {
	child.parent, child.key = n, key
	n.members = append(n.members, child)
	n.index[key] = child
	return child
}

// document is a TOML file as a tree that remembers every place.
type document struct {
	mistakes
	root   *node
	table  *node // where the next key = value goes
	broken bool  // some text could not be read, so what seems absent may be there
}

var bom = []byte("\xef\xbb\xbf")

// parseDocument reads TOML. Mistakes of grammar and doubled keys are collected;
// reading goes on after them as far as that makes sense.
func parseDocument(name string, data []byte) *document {
	start := 0
	if bytes.HasPrefix(data, bom) {
		start = len(bom)
	}
	d := &document{root: newTable(byHeader)}
	d.file, d.places = name, newPlaces(data, start)
	d.table = d.root
	if isUTF16(data) {
		d.broken = true
		d.add(0, "", "the file is UTF-16; save it as UTF-8")
		return d
	}
	for start < len(data) {
		start = d.read(start)
	}
	return d
}

// isUTF16 reports whether a text is in the other encoding that editors have:
// its mark is there, or one half of its first character is zero.
func isUTF16(data []byte) bool {
	return bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) ||
		len(data) > 1 && (data[0] == 0) != (data[1] == 0)
}

// read adds the expressions from offset base on, up to the end or to an error,
// and returns where reading can go on.
func (d *document) read(base int) int {
	data := d.places.data
	var p unstable.Parser
	p.Reset(data[base:])
	done := base // end of what was understood
	for p.NextExpression() {
		e := p.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			done = d.header(e, base)
		default:
			done = base + int(e.Raw.Offset+e.Raw.Length)
			d.keyValue(d.table, e, base, false)
		}
	}
	if p.Error() == nil {
		return len(data)
	}
	return d.syntaxError(p.Error(), &p, base, done)
}

// header enters the table of a [header].
func (d *document) header(e *unstable.Node, base int) (end int) {
	n := d.root
	for it := e.Key(); it.Next(); {
		k := it.Node()
		key, at := string(k.Data), base+int(k.Raw.Offset)
		end = at + int(k.Raw.Length)
		if it.IsLast() && e.Kind == unstable.ArrayTable {
			n = d.nextTable(n, key, at)
		} else {
			n = d.enter(n, key, at, it.IsLast())
		}
	}
	d.table = n
	return end
}

// enter returns the table that one part of a [header] names below n.
func (d *document) enter(n *node, key string, at int, last bool) *node {
	next := n.index[key]
	if next == nil {
		next = n.adopt(key, newTable(byParent))
		next.at, next.keyAt = at, at
	}
	if next.listsTables() && !last {
		return next.members[len(next.members)-1] // the table that is being written
	}
	if next.kind != kindTable || next.origin == byInline || last && next.origin != byParent {
		d.doubled(next, at)
	}
	if next.kind != kindTable || next.origin == byInline {
		next = newTable(byHeader) // what follows has no right place
		next.parent, next.key = n, key
	}
	if last {
		next.origin = byHeader
	}
	return next
}

// nextTable returns the table that a [[header]] adds to the list it names.
func (d *document) nextTable(n *node, key string, at int) *node {
	list := n.index[key]
	if list == nil {
		list = n.adopt(key, &node{kind: kindList, origin: byHeader, at: at, keyAt: at})
	}
	table := newTable(byHeader)
	table.parent, table.at, table.keyAt = list, at, at
	if list.listsTables() {
		list.members = append(list.members, table)
	} else {
		d.doubled(list, at)
	}
	return table
}

// keyValue adds `key = value` below the table n.
func (d *document) keyValue(n *node, e *unstable.Node, base int, inline bool) {
	for it := e.Key(); it.Next(); {
		k := it.Node()
		key := string(k.Data)
		at := base + int(k.Raw.Offset)
		old := n.index[key]
		if it.IsLast() {
			if old != nil {
				d.doubled(old, at)
				return
			}
			v := n.adopt(key, &node{at: d.valueAt(at + int(k.Raw.Length)), keyAt: at, inline: inline})
			v.start, v.end = base+int(e.Raw.Offset), base+int(e.Raw.Offset+e.Raw.Length)
			d.fill(v, e.Value(), base)
			return
		}
		if old != nil && (old.kind != kindTable || old.origin != byDots) {
			d.doubled(old, at)
			return
		}
		if old == nil {
			old = n.adopt(key, newTable(byDots))
			old.at, old.keyAt = at, at
		}
		n = old
	}
}

// fill puts a value into its node, which knows its place.
func (d *document) fill(n *node, v *unstable.Node, base int) {
	n.text = string(v.Data)
	switch v.Kind {
	case unstable.String:
		n.kind = kindText
	case unstable.Bool:
		n.kind = kindBool
	case unstable.Integer:
		n.kind = kindNumber
	case unstable.Float:
		n.kind = kindFloat
	case unstable.Array:
		n.kind = kindList
		for it := v.Children(); it.Next(); {
			element := &node{parent: n, at: n.at} // the parser tells no place of a list in a list
			if r := it.Node().Raw; r.Length > 0 {
				element.at = base + int(r.Offset)
			}
			element.keyAt = element.at
			n.members = append(n.members, element)
			d.fill(element, it.Node(), base)
		}
	case unstable.InlineTable:
		n.kind, n.origin, n.index = kindTable, byInline, map[string]*node{}
		for it := v.Children(); it.Next(); {
			d.keyValue(n, it.Node(), base, true)
		}
	default:
		n.kind = kindDate
	}
}

// valueAt returns where the value begins whose key ends at offset end.
func (d *document) valueAt(end int) int {
	data := d.places.data
	blank := func() {
		for end < len(data) && (data[end] == ' ' || data[end] == '\t') {
			end++
		}
	}
	blank()
	end++ // '='
	blank()
	return end
}

func (d *document) doubled(first *node, at int) {
	d.add(at, first.path(), fmt.Sprintf("is set twice; the first is on line %d", d.places.line(first.keyAt)))
}

// syntaxError notes err and returns where reading goes on: at the next line
// if the broken expression is one line, else at the next [header], because the
// rest of it would only cause errors that are none.
func (d *document) syntaxError(err error, p *unstable.Parser, base, done int) int {
	data := d.places.data
	d.broken = true
	at := base
	if pe, ok := errors.AsType[*unstable.ParserError](err); ok {
		at = base + int(p.Range(pe.Highlight).Offset)
	}
	start := d.nextExpression(done, done > base)
	message := explain(err.Error(), data[at:])
	if first, here := d.places.line(start), d.places.line(at); first < here {
		message += fmt.Sprintf("; this is still part of what begins on line %d", first)
	}
	d.add(at, "", message)

	lineEnd := endOfLine(data, at)
	whole := d.places.line(start) == d.places.line(at) && !leavesOpen(data[start:lineEnd])
	header := bytes.HasPrefix(data[start:], []byte("["))
	if whole && !header {
		return min(lineEnd+1, len(data))
	}
	d.table = newTable(byHeader)
	if next := headerLine.FindIndex(data[lineEnd:]); next != nil {
		return lineEnd + next[0] + 1
	}
	return len(data)
}

// headerLine is a line end and a [header] on a line of its own.
var headerLine = regexp.MustCompile(`\n[ \t]*\[[ \t]*[A-Za-z0-9_"'][^\[\],={}]*\][ \t]*(#[^\n]*)?\r?(\n|$)`)

// nextExpression returns the offset of the first byte after offset at that is
// neither blank nor comment. With restOfLine, at is the end of an expression.
func (d *document) nextExpression(at int, restOfLine bool) int {
	data := d.places.data
	if restOfLine {
		line := data[at:endOfLine(data, at)]
		rest := bytes.TrimLeft(line, " \t]")
		if len(bytes.TrimSpace(rest)) > 0 && rest[0] != '#' {
			return at // the error is behind the value, on its line
		}
		at = endOfLine(data, at)
	}
	for at < len(data) {
		switch data[at] {
		case ' ', '\t', '\r', '\n':
			at++
		case '#':
			at = endOfLine(data, at)
		default:
			return at
		}
	}
	return at
}

func endOfLine(data []byte, at int) int {
	if i := bytes.IndexByte(data[at:], '\n'); i >= 0 {
		return at + i
	}
	return len(data)
}

// leavesOpen reports whether a line opens more brackets than it closes.
func leavesOpen(line []byte) bool {
	depth := 0
	for _, c := range line {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		}
	}
	return depth > 0
}

// explain puts the parser's message into the operator's words where those of
// the parser do not say what to do. rest is the file from the error on; nothing
// of it is shown but single characters the parser shows.
func explain(message string, rest []byte) string {
	lower := bytes.ToLower(rest[:min(len(rest), 5)])
	switch {
	case bytes.HasPrefix(lower, []byte("true")) || bytes.HasPrefix(lower, []byte("false")):
		return "syntax error: true and false are written in lower case, without quotes"
	case strings.Contains(message, "at start of value"), strings.Contains(message, "strings must be quoted"),
		strings.HasPrefix(message, "expected keyword"):
		return `syntax error: not a value; text must be in quotes, "like this"`
	case strings.Contains(message, "basic strings cannot have new lines"), strings.Contains(message, "unterminated basic string"):
		return `syntax error: the closing quote " is missing`
	case strings.Contains(message, "literal strings cannot have new lines"), strings.Contains(message, "unterminated literal string"):
		return `syntax error: the closing quote ' is missing`
	case strings.Contains(message, "invalid UTF-8"):
		message += "; save the file as UTF-8"
	}
	return "syntax error: " + message
}

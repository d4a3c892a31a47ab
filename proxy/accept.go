package proxy

import (
	"cmp"
	"strings"
)

// format is a page's representation.
type format uint8

const (
	formatText format = iota // what a terminal, and a client that does not say, gets
	formatHTML
	formatJSON
	formats
)

// preferredFormat chooses by Accept (RFC 9110, 12.5.1): the highest weight,
// then what was named more exactly, then what was named first. Who takes
// anything gets text, and so does who takes nothing we have.
func preferredFormat(accept []string) format {
	type rank struct{ q, exact, at int }
	var ranks [formats]rank
	at := 0
	for item, q := range items(accept) {
		for f := range formats {
			// A more exact range overrules a wider one (RFC 9110, 12.5.1).
			if exact := f.exactness(item); exact > ranks[f].exact {
				ranks[f] = rank{q, exact, at}
			}
		}
		at++
	}
	best := formatText
	for f := range formats {
		a, b := ranks[f], ranks[best]
		if cmp.Or(cmp.Compare(a.q, b.q), cmp.Compare(a.exact, b.exact), cmp.Compare(b.at, a.at)) > 0 {
			best = f
		}
	}
	return best
}

// exactness says how exactly a media range names f: 0 not at all, 1 by */*,
// 2 by its type, 3 by a relative, 4 by name.
func (f format) exactness(mediaRange string) int {
	if mediaRange == "*/*" {
		return 1
	}
	is := func(name string) bool { return strings.EqualFold(mediaRange, name) }
	switch f {
	case formatHTML:
		switch {
		case is("text/html"):
			return 4
		case is("application/xhtml+xml"):
			return 3
		case is("text/*"):
			return 2
		}
	case formatJSON:
		switch {
		case is("application/problem+json"), is("application/json"):
			return 4
		case hasSuffixFold(mediaRange, "+json"):
			return 3
		case is("application/*"):
			return 2
		}
	case formatText:
		switch {
		case is("text/plain"):
			return 4
		case is("text/*"):
			return 2
		}
	}
	return 0
}

// wantsJSON reports whether Accept names JSON and not HTML: a program asks.
func wantsJSON(accept []string) bool {
	json := false
	for item, q := range items(accept) {
		if q == 0 {
			continue
		}
		if formatHTML.exactness(item) >= 3 {
			return false
		}
		json = json || formatJSON.exactness(item) >= 3
	}
	return json
}

package logging

import "strings"

const redacted = "REDACTED"

// redactor replaces the values of query parameters that carry secrets.
type redactor struct {
	names []string // lower case
}

func newRedactor(names []string) redactor {
	var r redactor
	for _, name := range names {
		if name != "" {
			r.names = append(r.names, strings.ToLower(name))
		}
	}
	return r
}

// append writes text as a JSON string of at most about limit bytes, in which the
// value of every parameter with one of the names is REDACTED. text is a URI or
// holds some.
//
// A parameter's name starts after '?', '&', ';' or '#' (OAuth answers in the
// fragment), in any case and percent-encoded or not. Its value ends at '&', '#'
// or a byte no URI can hold; not at ';', which most parsers take as part of the
// value.
func (r *redactor) append(b []byte, text string, limit int) []byte {
	i := -1
	if len(r.names) > 0 {
		i = startOfQuery(text)
	}
	if i < 0 {
		return appendString(b, text, limit)
	}
	b = append(b, '"')
	start := len(b)
	written := 0 // bytes of text that b holds
	for i < len(text) {
		c := text[i]
		i++
		if c != '?' && c != '&' && c != ';' && c != '#' {
			continue
		}
		end := i
		for end < len(text) && !endsName(text[end]) { // names are short: strings.IndexAny prepares for longer
			end++
		}
		if end == len(text) || text[end] != '=' || !r.secret(text[i:end]) {
			continue
		}
		i = end + 1
		b = appendEscaped(b, text[written:i], limit-(len(b)-start))
		b = append(b, redacted...)
		if end := strings.IndexAny(text[i:], "&# \"<>"); end >= 0 {
			i += end
		} else {
			i = len(text)
		}
		written = i
		if len(b)-start >= limit {
			return append(b, '"')
		}
	}
	b = appendEscaped(b, text[written:], limit-(len(b)-start))
	return append(b, '"')
}

// startOfQuery returns the place of the first '?' or '#', or -1.
func startOfQuery(text string) int {
	i := strings.IndexByte(text, '?')
	if i < 0 {
		return strings.IndexByte(text, '#')
	}
	if j := strings.IndexByte(text[:i], '#'); j >= 0 {
		return j
	}
	return i
}

func endsName(c byte) bool {
	switch c {
	case '=', '?', '&', ';', '#', ' ', '"', '<', '>':
		return true
	}
	return false
}

func (r *redactor) secret(encoded string) bool {
	for _, name := range r.names {
		if decodesTo(encoded, name) {
			return true
		}
	}
	return false
}

// decodesTo reports whether a percent-encoded name is want, which is lower
// case.
func decodesTo(encoded, want string) bool {
	if len(encoded) < len(want) {
		return false
	}
	n := 0
	for i := 0; i < len(encoded); i++ {
		c := encoded[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(encoded) && isHex(encoded[i+1]) && isHex(encoded[i+2]):
			c = fromHex(encoded[i+1])<<4 | fromHex(encoded[i+2])
			i += 2
		}
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if n == len(want) || want[n] != c {
			return false
		}
		n++
	}
	return n == len(want)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func fromHex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	}
	return c - 'a' + 10
}

package logging

import (
	"encoding/binary"
	"slices"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString writes s as a JSON string (RFC 8259) that is safe to keep on one
// line: control bytes, U+2028 and U+2029 (line ends to JavaScript) escaped,
// invalid UTF-8 replaced by U+FFFD. It stops where the string would become
// longer than limit.
func appendString(b []byte, s string, limit int) []byte {
	b = append(b, '"')
	b = appendEscaped(b, s, limit)
	return append(b, '"')
}

// appendEscaped is appendString without the quotes.
func appendEscaped(b []byte, s string, limit int) []byte {
	limit = max(limit, 0)
	if len(s) > limit {
		s = s[:limit] // an escape is never shorter than what it stands for
	}
	end := len(b) + limit
	for {
		b, s = appendPlain(b, s)
		if len(b) > end {
			return b[:end]
		}
		if s == "" {
			return b
		}
		before := len(b)
		b, s = appendSpecial(b, s)
		if len(b) > end {
			return b[:before]
		}
	}
}

// appendPlain writes the beginning of s, nearly always all, that surely needs
// no escape, and returns what is left of it. It takes eight bytes at a time: most
// of a line's cost is here.
func appendPlain(b []byte, s string) (longer []byte, rest string) {
	n := len(b)
	b = slices.Grow(b, len(s))
	to := b[n : n+len(s)]
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		w := eight(s[i:])
		if specials(w) != 0 {
			break
		}
		binary.LittleEndian.PutUint64(to[i:], w)
	}
	if last := len(s) - 8; last >= 0 && last < i {
		// The rest, with some of what is written already.
		if w := eight(s[last:]); specials(w) == 0 {
			binary.LittleEndian.PutUint64(to[last:], w)
			i = len(s)
		}
	}
	for ; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			break
		}
		to[i] = c
	}
	return b[:n+i], s[i:]
}

// eight returns the first eight bytes of s.
func eight(s string) uint64 {
	_ = s[7]
	return uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
}

// specials returns something other than 0 if a byte of w may need an escape.
func specials(w uint64) uint64 {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	quote, backslash := w^'"'*ones, w^'\\'*ones
	// x-ones has the high bit where a byte of x was 0 (or has it already),
	// w-' '*ones where one of w was below a space, w+ones where it was DEL.
	return (w | (w + ones) | (w - ' '*ones) | (quote - ones) | (backslash - ones)) & highs
}

// appendSpecial writes the first character of s, which is not plain, and
// returns what is left of it.
func appendSpecial(b []byte, s string) (longer []byte, rest string) {
	c := s[0]
	if c < utf8.RuneSelf {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c) // appendPlain may be wrong about it
		}
		return b, s[1:]
	}
	r, size := utf8.DecodeRuneInString(s)
	switch {
	case r == utf8.RuneError && size == 1:
		b = append(b, `\ufffd`...)
	case r < 0xa0: // C1 controls, which some terminals obey
		b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
	case r == '\u2028' || r == '\u2029':
		b = append(b, `\u202`...)
		b = append(b, hexDigits[r&15])
	default:
		b = append(b, s[:size]...)
	}
	return b, s[size:]
}

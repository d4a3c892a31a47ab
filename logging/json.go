package logging

import "unicode/utf8"

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
	i := plainPrefix(s)
	if i == len(s) && i <= limit {
		return append(b, s...)
	}
	limit += len(b)
	i = min(i, max(limit-len(b), 0))
	start := 0 // of what needs no escape
	for i < len(s) {
		if len(b)+i-start >= limit {
			s = s[:i]
			break
		}
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != 0x7f {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			b = append(b, s[start:i]...)
			b = append(b, `\ufffd`...)
			start = i + size
		case r < 0xa0: // C1 controls, which some terminals obey
			b = append(b, s[start:i]...)
			b = append(b, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
			start = i + size
		case r == '\u2028' || r == '\u2029':
			b = append(b, s[start:i]...)
			b = append(b, `\u202`...)
			b = append(b, hexDigits[r&15])
			start = i + size
		}
		i += size
	}
	return append(b, s[start:]...)
}

// plainPrefix returns how many bytes at the beginning of s, nearly always all,
// surely need no escape. It looks at eight bytes at a time: most of a line's cost
// is here.
func plainPrefix(s string) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x80 * ones
	)
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		t := s[i : i+8]
		w := uint64(t[0]) | uint64(t[1])<<8 | uint64(t[2])<<16 | uint64(t[3])<<24 |
			uint64(t[4])<<32 | uint64(t[5])<<40 | uint64(t[6])<<48 | uint64(t[7])<<56
		quote, backslash, del := w^'"'*ones, w^'\\'*ones, w^0x7f*ones
		// x-ones has the high bit where a byte of x was 0 (or has it
		// already), w-' '*ones where one of w was below a space.
		if (w|(w-' '*ones)|(quote-ones)|(backslash-ones)|(del-ones))&highs != 0 {
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			break
		}
	}
	return i
}

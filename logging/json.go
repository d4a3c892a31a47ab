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
	limit += len(b)
	start := 0 // of what needs no escape
	for i := 0; i < len(s); {
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

package wire

// The classes a byte can belong to.
const (
	tokenByte  = 1 << iota // tchar, RFC 9110 section 5.6.2
	targetByte             // in a request target
	valueByte              // in a field value
	nameByte               // in a host name
	hexByte                // HEXDIG
)

func is(c byte, class uint8) bool { return classes[c]&class != 0 }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// CanBegin reports whether a request can begin with c: with its method, or the
// CR of an empty line before it.
func CanBegin(c byte) bool { return c == '\r' || is(c, tokenByte) }

// classes is a table and not a function because it is asked for each byte.
var classes = func() (t [256]uint8) {
	for i := range t {
		c := byte(i)
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if letter || isDigit(c) {
			t[c] |= tokenByte | nameByte
		}
		if isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' {
			t[c] |= hexByte
		}
		// Browsers send bytes in a query that RFC 3986 wants escaped, and curl
		// sends UTF-8 as it was typed: all harmless. Not so controls and space,
		// which end the target for some, and "#", which begins a fragment for some.
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= targetByte
		}
		if c >= ' ' && c != 0x7f || c == '\t' {
			t[c] |= valueByte
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= tokenByte
	}
	for _, c := range []byte("-._~") {
		t[c] |= nameByte
	}
	return t
}()

// equalFold reports whether b is s, which must be lower-case ASCII, in any case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

package wire

import "encoding/binary"

// What is wrong with a message that is to be sent.
const (
	ErrSendMethod = Unsendable("method")
	ErrSendTarget = Unsendable("request target")
	ErrSendHost   = Unsendable("host")
	ErrSendField  = Unsendable("field")
)

// Unsendable says which part of a message its receiver would take for something
// else.
type Unsendable string

func (u Unsendable) Error() string { return "cannot send " + string(u) + ": not as HTTP/1 writes it" }

// AppendMethod appends the method and the space behind it.
func AppendMethod(b []byte, method string) ([]byte, error) {
	if !isToken(method) {
		return b, ErrSendMethod
	}
	b = append(b, method...)
	return append(b, ' '), nil
}

// EndRequestLine ends the request line whose target is b[start:].
func EndRequestLine(b []byte, start int) ([]byte, error) {
	all := uint8(targetByte) // no early end, as there is hardly ever a mistake
	for _, c := range b[start:] {
		all &= classes[c]
	}
	if start == len(b) || all == 0 {
		return b, ErrSendTarget
	}
	return append(b, " HTTP/1.1\r\n"...), nil
}

// AppendHost appends the Host field.
func AppendHost(b []byte, host string) ([]byte, error) {
	b = append(b, "Host: "...)
	start := len(b)
	b = append(b, host...)
	if !validHost(b[start:]) {
		return b, ErrSendHost
	}
	return append(b, '\r', '\n'), nil
}

// AppendField appends one field line, without the white space around its value.
func AppendField(b []byte, name, value string) ([]byte, error) {
	if !isToken(name) {
		return b, ErrSendField
	}
	for len(value) > 0 && (value[0] == ' ' || value[0] == '\t') {
		value = value[1:]
	}
	for len(value) > 0 && (value[len(value)-1] == ' ' || value[len(value)-1] == '\t') {
		value = value[:len(value)-1]
	}
	b = append(b, name...)
	b = append(b, ':', ' ')
	start := len(b)
	b = append(b, value...)
	if !validValue(b[start:]) {
		return b, ErrSendField
	}
	return append(b, '\r', '\n'), nil
}

func isToken(s string) bool {
	all := uint8(tokenByte)
	for i := range len(s) {
		all &= classes[s[i]]
	}
	return s != "" && all != 0
}

// validValue reports whether all of v may be in a field value. Eight bytes at a
// time: cookies are long.
func validValue(v []byte) bool {
	const highs = 0x8080808080808080
	if len(v) < 8 {
		return slowValidValue(v)
	}
	bad := controls(v[len(v)-8:]) // the last ones, with some that are looked at anyway
	for rest := v; len(rest) > 8; rest = rest[8:] {
		bad |= controls(rest)
	}
	return bad&highs == 0 || slowValidValue(v) // it may be a tab, which is valid
}

// controls returns something with a high bit if one of the first eight bytes of
// v is below space, or DEL.
func controls(v []byte) uint64 {
	const ones = 0x0101010101010101
	w := binary.LittleEndian.Uint64(v)
	del := w ^ 0x7f*ones
	return (w-' '*ones)&^w | (del-ones)&^del
}

func slowValidValue(v []byte) bool {
	for _, c := range v {
		if !is(c, valueByte) {
			return false
		}
	}
	return true
}

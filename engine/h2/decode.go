package h2

import (
	"errors"

	"golang.org/x/net/http2/hpack"
)

// table is what hpack's Decoder has in its dynamic table, with what was found out
// about each field when it came: most fields of a request come again as one byte,
// and then nobody looks at them twice.
type table struct {
	fields []tableField // oldest first
	size   int
	max    int
	lost   bool // it does not follow the decoder any more, as a field was too large, or its length written in many bytes
}

// tableField is a field that was judged.
type tableField struct {
	name, value string // name is canonical, but for a pseudo-field
	kind        fieldKind
}

// fieldKind says what a field is: a number of pseudoMethod and so on, or one of these.
type fieldKind uint8

const (
	regular fieldKind = pseudoCount + iota
	badName
	badValue
	paddedValue
	badPseudo
)

// size is what RFC 7541, section 4.1, counts.
func (f *tableField) size() int { return len(f.name) + len(f.value) + 32 }

// judge looks whether a field is in order.
func judge(wire, value string) tableField {
	f := tableField{wire, value, regular}
	if wire != "" && wire[0] == ':' {
		f.kind = pseudoKind(wire)
		return f
	}
	f.name = canonical(wire)
	switch {
	case !validName(wire):
		f.kind = badName
	case !validValue(value):
		f.kind = badValue
	case padded(value):
		f.kind = paddedValue
	}
	return f
}

func pseudoKind(name string) fieldKind {
	switch name {
	case ":method":
		return pseudoMethod
	case ":scheme":
		return pseudoScheme
	case ":authority":
		return pseudoAuthority
	case ":path":
		return pseudoPath
	case ":protocol":
		return pseudoProtocol
	}
	return badPseudo
}

// staticTable is that of RFC 7541, appendix A; its first field is not used.
var staticTable = func() (t [1 + staticCount]tableField) {
	for i := range staticCount {
		d := hpack.NewDecoder(0, func(f hpack.HeaderField) { t[i+1] = judge(f.Name, f.Value) })
		_, _ = d.Write([]byte{0x80 | byte(i+1)})
	}
	return t
}()

// at returns the field for which b stands alone; nil = there is none.
func (t *table) at(b byte) *tableField {
	i := int(b) - 0x80
	if 0 < i && i <= staticCount {
		return &staticTable[i]
	}
	if i -= staticCount; 0 < i && i <= len(t.fields) && b < 0xff {
		return &t.fields[len(t.fields)-i]
	}
	return nil
}

func (t *table) add(f tableField) {
	t.fields = append(t.fields, f)
	t.size += f.size()
	t.resize(t.max)
}

// resize removes the oldest fields until the others fit into size.
func (t *table) resize(size int) {
	t.max = size
	n := 0
	for ; t.size > t.max; n++ {
		t.size -= t.fields[n].size()
	}
	if n > 0 {
		left := copy(t.fields, t.fields[n:])
		clear(t.fields[left:])
		t.fields = t.fields[:left]
	}
}

var errLateResize = errors.New("table size update behind a field")

// decode decodes a header block. What is not one byte that stands for
// a field goes to the decoder, one field at a time, so that table can follow it.
func (h *head) decode(block []byte) error {
	for !h.table.lost && len(block) > 0 {
		if f := h.table.at(block[0]); f != nil {
			h.take(f)
			h.begun = true
			block = block[1:]
			continue
		}
		if isResize(block[0]) && h.begun && h.table.size > 0 { // the decoder does not know what came before
			return errLateResize
		}
		n := fieldLength(block)
		if n == 0 {
			h.table.lost = true
			break
		}
		if err := h.decodeOne(block[:n]); err != nil {
			return err
		}
		block = block[n:]
	}
	_, err := h.decoder.Write(block)
	return err
}

// decodeOne decodes a field, or a table size update.
func (h *head) decodeOne(b []byte) error {
	h.hasOne = false
	if _, err := h.decoder.Write(b); err != nil {
		return err
	}
	switch {
	case isResize(b[0]):
		size, _ := takeInt(b, 5)
		h.table.resize(int(size))
		return nil
	case b[0]&0xc0 == 0x40 && h.hasOne:
		h.table.add(h.came)
	case b[0]&0xc0 == 0x40:
		h.table.lost = true
	}
	h.begun = true
	return nil
}

// isResize reports whether a table size update begins with b.
func isResize(b byte) bool { return b&0xe0 == 0x20 }

// fieldLength is how many bytes of b the first field takes; 0 = they are not all
// there, or not in order.
func fieldLength(b []byte) int {
	bits, isString := 4, 0
	switch {
	case b[0]&0x80 != 0:
		bits = 7
	case b[0]&0x40 != 0:
		bits, isString = 6, 1
	case b[0]&0x20 != 0:
		bits = 5
	default:
		isString = 1
	}
	index, n := peekInt(b, bits)
	if n == 0 {
		return 0
	}
	if isString == 1 && index == 0 {
		isString = 2 // its name comes, too
	}
	for range isString {
		length, m := peekInt(b[n:], 7)
		if n += m; m == 0 || length > uint32(len(b)-n) {
			return 0
		}
		n += int(length)
	}
	return n
}

// peekInt is takeInt of what a stranger sent, and how many bytes that were; 0 =
// they are not all there, or too many.
func peekInt(b []byte, bits int) (v uint32, n int) {
	for i := range min(len(b), 4) {
		if i == 0 && int(b[0])&(1<<bits-1) != 1<<bits-1 || i > 0 && b[i]&0x80 == 0 {
			v, _ = takeInt(b, bits)
			return v, i + 1
		}
	}
	return 0, 0
}

package h2

import (
	"errors"

	"golang.org/x/net/http2/hpack"
)

// decoder decodes the client's header blocks, as RFC 7541 says. With each field of its
// table it keeps the verdict on it: most fields of a request come again as one byte,
// and are not looked at twice.
type decoder struct {
	fields []tableField // oldest first
	size   int          // of all of them
	max    int          // of size; at most tableBytes

	literal tableField // the last field that came as a literal
}

// tableField is a field with the verdict on it.
type tableField struct {
	name, value string // name is canonical, but for a pseudo-field
	kind        fieldKind
}

// fieldKind says what a field is: a pseudo-field, by its number (pseudoMethod and so
// on), or one of these.
type fieldKind uint8

const (
	regular fieldKind = pseudoCount + iota
	badName
	badValue
	paddedValue
	badPseudo
)

// size is the size of an entry as RFC 7541, section 4.1, counts it.
func (f *tableField) size() int { return len(f.name) + len(f.value) + 32 }

// setName sets the name, as it came.
func (f *tableField) setName(wire string) {
	if wire != "" && wire[0] == ':' {
		f.name, f.kind = wire, pseudoKind(wire)
		return
	}
	f.name, f.kind = canonical(wire), regular
	if !validName(wire) {
		f.kind = badName
	}
}

// setNameOf gives f the name of another field.
func (f *tableField) setNameOf(other *tableField) {
	f.name, f.kind = other.name, other.kind
	if f.kind == badValue || f.kind == paddedValue {
		f.kind = regular
	}
}

// setValue sets the value. The name must be set.
func (f *tableField) setValue(value string) {
	f.value = value
	switch {
	case f.kind != regular:
	case !validValue(value):
		f.kind = badValue
	case padded(value):
		f.kind = paddedValue
	}
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

// staticTable has the fields of RFC 7541, appendix A; the first is not used.
var staticTable = func() (t [1 + staticCount]tableField) {
	for i, f := range staticFields {
		t[i].setName(f.Name)
		t[i].setValue(f.Value)
	}
	return t
}()

// staticFields are the same, taken from package hpack.
var staticFields = func() (all [1 + staticCount]hpack.HeaderField) {
	for i := range staticCount {
		d := hpack.NewDecoder(0, func(f hpack.HeaderField) { all[i+1] = f })
		_, _ = d.Write([]byte{0x80 | byte(i+1)})
	}
	return all
}()

// at returns the field with an index; nil = there is none.
func (d *decoder) at(index uint64) *tableField {
	if index <= staticCount {
		if index == 0 {
			return nil
		}
		return &staticTable[index]
	}
	if index -= staticCount; index <= uint64(len(d.fields)) {
		return &d.fields[uint64(len(d.fields))-index]
	}
	return nil
}

// resize removes the oldest fields until the others fit into max.
func (d *decoder) resize(max int) {
	d.max = max
	n := 0
	for ; d.size > d.max; n++ {
		d.size -= d.fields[n].size()
	}
	if n > 0 {
		left := copy(d.fields, d.fields[n:])
		clear(d.fields[left:])
		d.fields = d.fields[:left]
	}
}

var (
	errIndex      = errors.New("no field has the index")
	errNumber     = errors.New("number too large, or broken off")
	errString     = errors.New("string broken off")
	errLateResize = errors.New("table size update behind a field")
	errResize     = errors.New("table size update above the limit")
)

// decode decodes a block and takes its fields, also those before a mistake.
func (h *head) decode(block []byte) error {
	for began := false; len(block) > 0; {
		if block[0]&0xe0 == 0x20 { // section 6.3
			size, rest, ok := takeInt(block, 5)
			switch {
			case !ok:
				return errNumber
			case began:
				return errLateResize
			case size > tableBytes:
				return errResize
			}
			h.decoder.resize(int(size))
			block = rest
			continue
		}
		f, rest, err := h.decoder.field(block)
		if err != nil {
			return err
		}
		h.take(f)
		began, block = true, rest
	}
	return nil
}

// field decodes the field that b begins with. It is valid until the next call.
func (d *decoder) field(b []byte) (f *tableField, rest []byte, err error) {
	bits := 4 // sections 6.2.2 and 6.2.3
	switch {
	case b[0]&0x80 != 0: // section 6.1
		bits = 7
	case b[0]&0x40 != 0: // section 6.2.1
		bits = 6
	}
	index, rest, ok := takeInt(b, bits)
	if !ok {
		return nil, nil, errNumber
	}
	other := d.at(index)
	if other == nil && (index > 0 || bits == 7) {
		return nil, nil, errIndex
	}
	if bits == 7 {
		return other, rest, nil
	}
	f = &d.literal
	var s string
	if other != nil {
		f.setNameOf(other)
	} else {
		if s, rest, err = takeString(rest); err != nil {
			return nil, nil, err
		}
		f.setName(s)
	}
	if s, rest, err = takeString(rest); err != nil {
		return nil, nil, err
	}
	f.setValue(s)
	if bits == 6 {
		d.fields = append(d.fields, *f)
		d.size += f.size()
		d.resize(d.max)
	}
	return f, rest, nil
}

// takeInt takes an integer, as appendInt appends it, from b, which is not empty.
// false = it is broken off, or has more than 63 bits.
func takeInt(b []byte, n int) (v uint64, rest []byte, ok bool) {
	limit := uint64(1)<<n - 1
	if v = uint64(b[0]) & limit; v < limit {
		return v, b[1:], true
	}
	for i, c := range b[1:min(len(b), 1+9)] {
		v += uint64(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			return v, b[2+i:], true
		}
	}
	return 0, nil, false
}

// takeString takes a string, as appendString appends it, from b.
func takeString(b []byte) (s string, rest []byte, err error) {
	if len(b) == 0 {
		return "", nil, errString
	}
	n, rest, ok := takeInt(b, 7)
	if !ok {
		return "", nil, errNumber
	}
	if n > uint64(len(rest)) {
		return "", nil, errString
	}
	coded, rest := rest[:n], rest[n:]
	if b[0]&0x80 == 0 {
		return string(coded), rest, nil
	}
	s, err = hpack.HuffmanDecodeToString(coded)
	return s, rest, err
}

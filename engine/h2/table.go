package h2

import (
	"strconv"

	"golang.org/x/net/http2/hpack"
)

// encoder appends fields to out. It is hpack's Encoder, whose searches cost more
// than all the rest of a small answer, with a memory of what came of them: it
// keeps count of what that has put into the client's table, so that a field that
// comes again costs one comparison.
type encoder struct {
	out  func(n int) *[]byte // the output, with room for n bytes
	slow *hpack.Encoder

	known    [64]knownField
	inserted uint32   // entries, ever
	sizes    []uint32 // of the entries that are there, oldest first
	size     uint32   // of all of them
	max      uint32
	resized  bool // the next block must begin with a table size update
}

// knownField is a field that has an index.
type knownField struct {
	name, value string
	static      uint8  // its index in the static table; 0 = it is in the dynamic one
	entry       uint32 // as which it was inserted there
}

const (
	tableBytes = 4096 // of the client's table, unless it wants less

	staticCount   = 61 // entries of the static table, RFC 7541, appendix A
	contentLength = 28 // one of them
)

func (e *encoder) init(out func(n int) *[]byte) {
	e.out = out
	e.slow = hpack.NewEncoder(e)
	e.max = tableBytes
}

// Write implements io.Writer for hpack.
func (e *encoder) Write(b []byte) (int, error) {
	out := e.out(len(b))
	*out = append(*out, b...)
	return len(b), nil
}

// resize follows the client's SETTINGS_HEADER_TABLE_SIZE.
func (e *encoder) resize(n uint32) {
	e.slow.SetMaxDynamicTableSize(n)
	e.max = min(n, tableBytes)
	e.evict()
	e.resized = true
}

func (e *encoder) evict() {
	n := 0
	for ; e.size > e.max; n++ {
		e.size -= e.sizes[n]
	}
	e.sizes = e.sizes[:copy(e.sizes, e.sizes[n:])]
}

// encode appends a field.
func (e *encoder) encode(name wireName, value string) {
	if name.once && !e.resized {
		e.literal(name, value)
		return
	}
	k := &e.known[slot(name.name, value)%uint(len(e.known))]
	if k.name == name.name && k.value == value && !e.resized {
		if k.static != 0 {
			out := e.out(1)
			*out = append(*out, 0x80|k.static)
			return
		}
		if age := e.inserted - k.entry; int(age) < len(e.sizes) {
			out := e.out(3)
			*out = appendInt(*out, 0x80, 7, staticCount+1+age)
			return
		}
	}
	e.learn(k, name.name, value)
}

// learn appends a field by way of hpack, and looks at what that has done.
func (e *encoder) learn(k *knownField, name, value string) {
	start := len(*e.out(0))
	_ = e.slow.WriteField(hpack.HeaderField{Name: name, Value: value}) // our Write never fails
	b := (*e.out(0))[start:]
	for e.resized && b[0]&0xe0 == 0x20 {
		_, b = takeInt(b, 5)
	}
	e.resized = false
	switch {
	case b[0]&0x80 != 0:
		index, _ := takeInt(b, 7)
		if *k = (knownField{name: name, value: value}); index <= staticCount {
			k.static = uint8(index)
		} else {
			k.entry = e.inserted - (index - staticCount - 1)
		}
	case b[0]&0x40 != 0:
		e.inserted++
		size := uint32(len(name) + len(value) + 32)
		e.sizes = append(e.sizes, size)
		e.size += size
		e.evict()
		*k = knownField{name: name, value: value, entry: e.inserted}
	}
}

// literal appends a field that is not to be indexed.
func (e *encoder) literal(name wireName, value string) {
	out := e.out(16 + len(name.name) + len(value))
	b := *out
	if name.index > 0 {
		b = appendInt(b, 0, 4, uint32(name.index))
	} else {
		b = appendString(append(b, 0), name.name)
	}
	*out = appendString(b, value)
}

// length appends Content-Length.
func (e *encoder) length(n int64) {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	out := e.out(2 + 1 + len(text))
	b := appendInt(*out, 0, 4, contentLength)
	*out = append(appendInt(b, 0, 7, uint32(len(text))), text...)
}

// slot says where a field is remembered: where few others are.
func slot(name, value string) uint {
	h := uint(len(name))*5 + uint(len(value))*17
	if name != "" {
		h += uint(name[len(name)-1]) * 3
	}
	if value != "" {
		h += uint(value[0]) + uint(value[len(value)-1])*7
	}
	return h
}

// appendInt is RFC 7541, section 5.1: the first byte has n bits for the number,
// and kind in the others.
func appendInt(b []byte, kind byte, n int, v uint32) []byte {
	limit := uint32(1)<<n - 1
	if v < limit {
		return append(b, kind|byte(v))
	}
	b = append(b, kind|byte(limit))
	for v -= limit; v >= 0x80; v >>= 7 {
		b = append(b, 0x80|byte(v))
	}
	return append(b, byte(v))
}

// takeInt is the reverse of appendInt.
func takeInt(b []byte, n int) (v uint32, rest []byte) {
	limit := uint32(1)<<n - 1
	if v = uint32(b[0]) & limit; v < limit {
		return v, b[1:]
	}
	for i, c := range b[1:] {
		v += uint32(c&0x7f) << (7 * i)
		if c&0x80 == 0 {
			return v, b[2+i:]
		}
	}
	return v, nil
}

// appendString is RFC 7541, section 5.2.
func appendString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, uint32(n)), s)
	}
	return append(appendInt(b, 0, 7, uint32(len(s))), s...)
}

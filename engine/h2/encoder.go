package h2

import (
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// encoder appends fields to out, as RFC 7541 says. To search the client's table would
// cost more than all the rest of a small answer, so it remembers what it has put
// there: a field that comes again costs one comparison, and one byte.
type encoder struct {
	out func(n int) *[]byte // the output, with room for n bytes

	known    []knownField // hashed by slot; their number is a power of two
	inserted uint32       // how many entries ever were
	sizes    []uint32     // of the entries in the client's table, oldest first
	size     uint32       // of all of them
	gone     uint32       // size of those that were evicted, and may still be in known
	max      uint32       // of size
	least    uint32       // the smallest that max was since the last block
	resized  bool         // the next block must begin with a table size update
}

// knownField is a field that was put into the client's table.
type knownField struct {
	name, value string
	entry       uint32 // the value of inserted then; 0 = there is no field
}

const (
	tableBytes = 4096 // of the client's table, unless it wants less

	fewKnown  = 16 // room for the fields of one kind of answer
	manyKnown = 64 // room for what a table of 4096 bytes holds, nearly always
	nearSlots = 4  // in how many slots a field may be

	staticCount   = 61 // entries of the static table, RFC 7541, appendix A
	firstStatus   = 8  // index of the first of them that is a :status
	contentLength = 28 // index of Content-Length
)

func (e *encoder) init(out func(n int) *[]byte) {
	e.out = out
	e.known = make([]knownField, fewKnown)
	e.max, e.least = tableBytes, tableBytes
}

// resize follows the client's SETTINGS_HEADER_TABLE_SIZE.
func (e *encoder) resize(n uint32) {
	e.max = min(n, tableBytes)
	e.least = min(e.least, e.max)
	e.evict()
	e.resized = true
}

// evict removes the oldest entries until the others fit. Their fields are forgotten
// once they come to the size of a table: an idle connection would keep them otherwise.
func (e *encoder) evict() {
	n := 0
	for ; e.size > e.max; n++ {
		e.size -= e.sizes[n]
		e.gone += e.sizes[n]
	}
	e.sizes = e.sizes[:copy(e.sizes, e.sizes[n:])]
	if e.gone < tableBytes {
		return
	}
	e.gone = 0
	for i := range e.known {
		if k := &e.known[i]; !e.there(k) {
			*k = knownField{}
		}
	}
}

// sayResized appends the table size updates (RFC 7541, section 4.2).
func (e *encoder) sayResized() {
	out := e.out(8)
	if e.least < e.max {
		*out = appendInt(*out, 0x20, 5, e.least)
	}
	*out = appendInt(*out, 0x20, 5, e.max)
	e.least, e.resized = tableBytes, false
}

// status appends :status, with which a block begins that is not of trailers.
func (e *encoder) status(code int) {
	if e.resized {
		e.sayResized()
	}
	for i, c := range [...]int{200, 204, 206, 304, 400, 404, 500} {
		if c == code {
			out := e.out(1)
			*out = append(*out, byte(0x80|firstStatus+i))
			return
		}
	}
	text := "302" // that of an offline host
	if code != 302 {
		text = strconv.Itoa(code)
	}
	e.encode(wireName{name: ":status", index: firstStatus}, text)
}

// encode appends a field.
func (e *encoder) encode(name wireName, value string) {
	if e.resized {
		e.sayResized()
	}
	size := uint32(len(name.name) + len(value) + 32)
	if name.once || size > e.max {
		e.append(0, 4, uint32(name.index), name.name, value)
		return
	}
	k, found := e.find(name.name, value)
	if found {
		out := e.out(3)
		*out = appendInt(*out, 0x80, 7, e.index(k))
		return
	}
	e.append(0x40, 6, e.nameIndex(name), name.name, value)
	e.inserted++
	e.sizes = append(e.sizes, size)
	e.size += size
	e.evict()
	e.remember(k, name.name, value)
}

// append appends a literal field of that kind. The index of its name, 0 = it has none,
// has n bits in the first byte.
func (e *encoder) append(kind byte, n int, index uint32, name, value string) {
	out := e.out(16 + len(name) + len(value))
	b := appendInt(*out, kind, n, index)
	if index == 0 {
		b = appendString(b, name)
	}
	*out = appendString(b, value)
}

// find returns where a field is remembered, or, if it is not, where it can be; nil =
// nowhere.
func (e *encoder) find(name, value string) (k *knownField, found bool) {
	home, mask := slot(name, value), uint(len(e.known)-1)
	for i := range uint(nearSlots) {
		near := &e.known[(home+i)&mask]
		switch {
		case !e.there(near):
			if k == nil {
				k = near
			}
		case near.name == name && near.value == value:
			return near, true
		}
	}
	return k, false
}

// remember notes that a field was inserted. k is what find returned.
func (e *encoder) remember(k *knownField, name, value string) {
	for k == nil && len(e.known) < manyKnown {
		old := e.known
		e.known = make([]knownField, 2*len(old))
		for i := range old {
			if k, _ := e.find(old[i].name, old[i].value); k != nil && e.there(&old[i]) {
				*k = old[i]
			}
		}
		k, _ = e.find(name, value)
	}
	if k == nil {
		k = &e.known[slot(name, value)&(manyKnown-1)]
	}
	*k = knownField{name, strings.Clone(value), e.inserted} // cloned, as value may be part of something large
}

// there reports whether the client's table still has k.
func (e *encoder) there(k *knownField) bool {
	return int(e.inserted-k.entry) < len(e.sizes)
}

// index is the index of k in the client's table, if it is there.
func (e *encoder) index(k *knownField) uint32 { return staticCount + 1 + e.inserted - k.entry }

// nameIndex returns the index of an entry that has the name; 0 = none has.
func (e *encoder) nameIndex(name wireName) uint32 {
	if name.index != 0 {
		return uint32(name.index)
	}
	for i := range e.known {
		if k := &e.known[i]; k.name == name.name && e.there(k) {
			return e.index(k)
		}
	}
	return 0
}

// length appends Content-Length, which is not worth a place in a table.
func (e *encoder) length(n int64) {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	out := e.out(2 + 1 + len(text))
	b := appendInt(*out, 0, 4, contentLength)
	*out = append(appendInt(b, 0, 7, uint32(len(text))), text...)
}

// slot is the hash that says where a field is remembered.
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

// appendInt appends an integer (RFC 7541, section 5.1): the first byte has n bits for
// it, and kind in the others.
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

// appendString appends a string (RFC 7541, section 5.2).
func appendString(b []byte, s string) []byte {
	if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
		return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, uint32(n)), s)
	}
	return append(appendInt(b, 0, 7, uint32(len(s))), s...)
}

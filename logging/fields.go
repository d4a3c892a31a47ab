package logging

import (
	"math/bits"
	"net/http"
	"slices"
	"strings"
)

// fields is a header map in the order of its names. Sorting is a good part of
// what a line costs, so that the usual few are not moved about, nor their names
// compared: what is sorted are numbers, each the beginning of a name and the
// place of its field.
type fields struct {
	few   [fewFields]field
	order [fewFields]uint64 // seven bytes of the name, then the index in few
	n     int               // in few
	many  []field           // all, in order, when they are more; nil = few has them
}

// fewFields is enough for a browser's request and most answers.
const fewFields = 24

// field is one entry of a header map.
type field struct {
	name   string
	values []string
}

// sort takes h's fields. fs is zero before.
func (fs *fields) sort(h http.Header) {
	if len(h) > fewFields {
		fs.sortMany(h)
		return
	}
	for name, values := range h {
		i := fs.n
		f := &fs.few[i]
		f.name, f.values = name, values // a whole field would be made elsewhere, and copied
		key := beginning(name)&^0xff | uint64(i)
		for ; i > 0 && fs.before(key, fs.order[i-1]); i-- {
			fs.order[i] = fs.order[i-1]
		}
		fs.order[i] = key
		fs.n++
	}
}

// before reports whether the field of one key goes before that of another.
func (fs *fields) before(a, b uint64) bool {
	if a>>8 != b>>8 { // nearly always
		return a < b
	}
	return fs.few[a&0xff].name < fs.few[b&0xff].name
}

func (fs *fields) sortMany(h http.Header) {
	fs.many = make([]field, 0, len(h))
	for name, values := range h {
		fs.many = append(fs.many, field{name, values})
	}
	slices.SortFunc(fs.many, func(a, b field) int { return strings.Compare(a.name, b.name) })
}

func (fs *fields) len() int { return max(fs.n, len(fs.many)) }

func (fs *fields) at(i int) *field {
	if fs.many != nil {
		return &fs.many[i]
	}
	return &fs.few[fs.order[i]&0xff]
}

// beginning returns the first eight bytes of name as a number that is not
// larger when name is smaller.
func beginning(name string) uint64 {
	n := len(name)
	if n >= 8 {
		return bits.ReverseBytes64(eight(name))
	}
	if n >= 4 { // the first four, and behind them what the last four add
		return uint64(four(name))<<32 | uint64(four(name[n-4:])<<(8*(8-n)))
	}
	var b uint64
	for i := range n {
		b |= uint64(name[i]) << (56 - 8*i)
	}
	return b
}

// four returns the first four bytes of s, the first one the most significant.
func four(s string) uint32 {
	_ = s[3]
	return uint32(s[0])<<24 | uint32(s[1])<<16 | uint32(s[2])<<8 | uint32(s[3])
}

package wire

import (
	"encoding/binary"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Sorted is a header map in the order of its names: the map itself has no order, and
// an answer that looks the same each time is easier to read and to compare. Sorting
// would be a good part of what writing a head costs, so as long as there are few
// fields, neither are they moved nor their names compared. What is sorted then is
// numbers, each made of the beginning of a name and the place of its field.
type Sorted struct {
	few   [fewFields]sortedField
	order [fewFields]uint64 // seven bytes of the name, then the index in few
	n     int               // how many are in few
	many  []sortedField     // all, in order, if they are too many for few; nil = few has them
}

// fewFields is enough for most answers.
const fewFields = 16

type sortedField struct {
	name   string
	values []string
}

// sorteds are pooled and not on stacks: an idle connection keeps the stack of its
// deepest call.
var sorteds = sync.Pool{New: func() any { return new(Sorted) }}

// Sort sorts h. The result refers to h's values, until Release.
func Sort(h http.Header) *Sorted {
	s := sorteds.Get().(*Sorted)
	s.take(h)
	return s
}

// Release gives s back. It must not be used again.
func (s *Sorted) Release() {
	clear(s.few[:s.n])
	s.n, s.many = 0, nil
	sorteds.Put(s)
}

func (s *Sorted) take(h http.Header) {
	if len(h) > fewFields {
		s.takeMany(h)
		return
	}
	for name, values := range h {
		i := s.n
		f := &s.few[i]
		f.name, f.values = name, values // a whole field would be made elsewhere, and copied
		key := beginning(name)&^0xff | uint64(i)
		for ; i > 0 && s.before(key, s.order[i-1]); i-- {
			s.order[i] = s.order[i-1]
		}
		s.order[i] = key
		s.n++
	}
}

// before reports whether the field with key a goes before that with key b.
func (s *Sorted) before(a, b uint64) bool {
	if a>>8 != b>>8 { // nearly always
		return a < b
	}
	return s.few[a&0xff].name < s.few[b&0xff].name
}

func (s *Sorted) takeMany(h http.Header) {
	s.many = make([]sortedField, 0, len(h))
	for name, values := range h {
		s.many = append(s.many, sortedField{name, values})
	}
	slices.SortFunc(s.many, func(a, b sortedField) int { return strings.Compare(a.name, b.name) })
}

// Len is the number of names.
func (s *Sorted) Len() int { return max(s.n, len(s.many)) }

// At returns the name at place i and its values, which are the map's own.
func (s *Sorted) At(i int) (name string, values []string) {
	if s.many != nil {
		return s.many[i].name, s.many[i].values
	}
	f := &s.few[s.order[i]&0xff]
	return f.name, f.values
}

// beginning returns the first eight bytes of name as a number that is not
// larger when name is smaller.
func beginning(name string) uint64 {
	var first [8]byte
	copy(first[:], name)
	return binary.BigEndian.Uint64(first[:])
}

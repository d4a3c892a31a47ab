package logging

import "sync"

// buffers keeps buffers of one size for their next use.
type buffers struct {
	size int
	pool sync.Pool // of *[]byte
}

// get returns an empty buffer.
func (s *buffers) get() *[]byte {
	if b, ok := s.pool.Get().(*[]byte); ok {
		*b = (*b)[:0]
		return b
	}
	b := make([]byte, 0, s.size)
	return &b
}

// put takes a buffer back if it is of that size, and reports whether it is: one
// that grew is left to the garbage collector.
func (s *buffers) put(b *[]byte) bool {
	if cap(*b) != s.size {
		return false
	}
	s.pool.Put(b)
	return true
}

package client

import (
	"sync"

	"detour/engine/wire"
)

// bufferSize holds every usual request head, and every usual response head with
// the beginning of its body.
const bufferSize = 8 << 10

// buffer is the memory of an exchange: at first for the request head, then for what is
// received.
type buffer struct {
	b      []byte // all of it may be filled
	r, w   int    // b[r:w] was received and not used yet
	fields []wire.Field
}

var buffers = sync.Pool{New: func() any {
	return &buffer{b: make([]byte, bufferSize), fields: make([]wire.Field, 0, 32)}
}}

func takeBuffer() *buffer { return buffers.Get().(*buffer) }

func (b *buffer) release() {
	if len(b.b) > bufferSize || cap(b.fields) > 256 {
		return // large ones are rare, and not worth keeping
	}
	b.fields = b.fields[:0]
	b.r, b.w = 0, 0
	buffers.Put(b)
}

func (b *buffer) rest() []byte { return b.b[b.r:b.w] }
func (b *buffer) free() []byte { return b.b[b.w:] }

// makeRoom makes sure that free is not empty, unless rest has limit bytes already, and
// reports whether it could.
func (b *buffer) makeRoom(limit int) bool {
	if b.w < len(b.b) {
		return true
	}
	if b.r > 0 {
		b.w = copy(b.b, b.rest())
		b.r = 0
		return true
	}
	if len(b.b) >= limit {
		return false
	}
	larger := make([]byte, min(2*len(b.b), max(limit, bufferSize)))
	copy(larger, b.b)
	b.b = larger
	return true
}

// hold puts what was received elsewhere into the buffer, which is empty.
func (b *buffer) hold(p []byte) {
	if len(p) > len(b.b) {
		b.b = make([]byte, len(p))
	}
	b.r, b.w = 0, copy(b.b, p)
}

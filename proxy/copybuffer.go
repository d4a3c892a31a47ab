package proxy

import (
	"sync"

	"detour/engine/memory"
)

const copySize = 64 << 10

// copyBuffers are what bodies are copied through. 64 KiB is four TLS records
// and about one write to a socket; larger ones gained nothing.
var copyBuffers = sync.Pool{New: func() any { return new([copySize]byte) }}

// scarceBuffer is what does when memory is scarce.
const scarceBuffer = 4 << 10

// idleBuffer is enough for a chat message or an event. It is all that a stream that waits
// for one costs.
const idleBuffer = 1 << 10

// copyBuffer is what one stream is copied through; release must follow.
type copyBuffer struct {
	memory *memory.Budget
	small  []byte
	large  *[copySize]byte
	flows  bool // the last Read filled idleBuffer, at least
}

// next is where to read into. A stream that may be idle nearly all the time, of which
// there may be thousands, waits with a small buffer; what flows borrows a large one.
func (b *copyBuffer) next(idle bool) []byte {
	if idle && !b.flows {
		b.release()
		return b.little(idleBuffer)
	}
	if b.large == nil {
		if !b.memory.Take(copySize) {
			return b.little(scarceBuffer)
		}
		b.large = copyBuffers.Get().(*[copySize]byte)
	}
	return b.large[:]
}

func (b *copyBuffer) little(n int) []byte {
	if len(b.small) < n {
		b.small = make([]byte, n)
	}
	return b.small
}

// got says how much was read into it.
func (b *copyBuffer) got(n int) { b.flows = n >= idleBuffer }

func (b *copyBuffer) release() {
	if b.large != nil {
		copyBuffers.Put(b.large)
		b.memory.Give(copySize)
		b.large = nil
	}
}

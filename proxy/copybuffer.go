package proxy

import "sync"

// copyBuffers are what bodies are copied through. 64 KiB is four TLS records
// and about one write to a socket; larger ones gained nothing.
var copyBuffers = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// idleBuffer is enough for a chat message or an event. It is all that a stream that waits
// for one costs.
const idleBuffer = 1 << 10

// copyBuffer is what one stream is copied through. Its zero value is ready;
// release must follow.
type copyBuffer struct {
	small []byte
	large *[64 << 10]byte
	flows bool // the last Read filled small, at least
}

// next is where to read into. A stream that may be idle nearly all the time, of which
// there may be thousands, waits with a small buffer; what flows borrows a large one.
func (b *copyBuffer) next(idle bool) []byte {
	if idle && !b.flows {
		b.release()
		if b.small == nil {
			b.small = make([]byte, idleBuffer)
		}
		return b.small
	}
	if b.large == nil {
		b.large = copyBuffers.Get().(*[64 << 10]byte)
	}
	return b.large[:]
}

// got says how much was read into it.
func (b *copyBuffer) got(n int) { b.flows = n >= idleBuffer }

func (b *copyBuffer) release() {
	if b.large != nil {
		copyBuffers.Put(b.large)
		b.large = nil
	}
}

package h2

import "sync"

// Buffers are borrowed only while data flows. There are three sizes: for a small
// request or answer; for a full frame of a body; and for four full frames with some
// control frames between them, which are for the connection as a whole.
const (
	smallBuffer = 8 << 10
	frameBuffer = maxFrame
	largeBuffer = 72 << 10
)

var (
	smallBuffers = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	frameBuffers = sync.Pool{New: func() any { return new([frameBuffer]byte) }}
	largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// borrow returns an empty buffer with room for n bytes, if n is at most
// largeBuffer.
func borrow(n int) []byte {
	switch {
	case n <= smallBuffer:
		return smallBuffers.Get().(*[smallBuffer]byte)[:0]
	case n <= frameBuffer:
		return frameBuffers.Get().(*[frameBuffer]byte)[:0]
	}
	return largeBuffers.Get().(*[largeBuffer]byte)[:0]
}

// giveBack takes back a buffer of borrow, which must still begin where it began. One
// that has grown is left to the garbage collector.
func giveBack(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallBuffers.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case frameBuffer:
		frameBuffers.Put((*[frameBuffer]byte)(b[:frameBuffer]))
	case largeBuffer:
		largeBuffers.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

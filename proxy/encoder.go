package proxy

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"

	"detour/engine/memory"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// encoder is what gzip.Writer and zstd.Encoder have in common.
type encoder interface {
	io.WriteCloser
	Flush() error
	Reset(io.Writer)
}

// gzipLevel 1 gives within 4 % of the bytes of level 5 in half its time, and
// within 2 % of those of level 2 in seven eighths; it is still smaller than what
// zlib makes at its own level 1. zstd's fastest does the same for zstd.
const gzipLevel = 1

// zstdWindow is what a client must keep to decode; more hardly helps pages,
// and every open stream pays for it.
const zstdWindow = 128 << 10

// An encoder is about a megabyte of tables: making one costs more than
// compressing a page with it. The pools hold caches, no state.
var (
	gzipEncoders = sync.Pool{New: func() any {
		enc, err := gzip.NewWriterLevel(io.Discard, gzipLevel)
		if err != nil {
			panic(err) // the level is a constant
		}
		return enc
	}}
	zstdEncoders = sync.Pool{New: func() any {
		enc, err := zstd.NewWriter(io.Discard,
			zstd.WithEncoderConcurrency(1), // no goroutines: nobody would wait for them
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(zstdWindow),
			zstd.WithLowerEncoderMem(true),
			zstd.WithEncoderCRC(false), // TLS already guards the bytes
			zstd.WithZeroFrames(true))  // an empty body is a frame too
		if err != nil {
			panic(err) // the options are constants
		}
		return enc
	}}
	heldBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}
)

func encodersOf(c coding) *sync.Pool {
	if c == zstdCoding {
		return &zstdEncoders
	}
	return &gzipEncoders
}

// maxEncoders bounds the encoders that are in use at the same time, and so the memory
// that clients can tie up by not reading their answers: about 150 MiB at most. Beyond
// that, answers leave uncompressed.
const maxEncoders = 128

// encoderSize is what an encoder takes.
const encoderSize = 1200 << 10

// encoderBudget counts the encoders in use. The zero value is ready.
type encoderBudget struct {
	used   atomic.Int64
	memory *memory.Budget
}

// take reports whether one more may be used; then it is to be given back.
func (b *encoderBudget) take() bool {
	if b.used.Add(1) <= maxEncoders && b.memory.Take(encoderSize) {
		return true
	}
	b.used.Add(-1)
	return false
}

func (b *encoderBudget) giveBack() {
	b.used.Add(-1)
	b.memory.Give(encoderSize)
}

// takeEncoder gives an encoder that writes to w. It is given back with
// putEncoder after its Close, or left to the garbage collector.
func takeEncoder(c coding, w io.Writer) encoder {
	enc := encodersOf(c).Get().(encoder)
	enc.Reset(w)
	return enc
}

func putEncoder(c coding, enc encoder) {
	enc.Reset(io.Discard) // let go of the response
	encodersOf(c).Put(enc)
}

func takeBuffer() *bytes.Buffer { return heldBuffers.Get().(*bytes.Buffer) }

func putBuffer(b *bytes.Buffer) {
	b.Reset()
	heldBuffers.Put(b)
}

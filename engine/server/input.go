package server

import (
	"io"
	"sync"

	"detour/engine/wire"
)

// inputBytes holds nearly every head, and what comes with it.
const inputBytes = 8 << 10

// store is the memory that an input borrows.
type store struct {
	bytes  []byte
	fields []wire.Field // scratch
}

var storePool = sync.Pool{New: func() any {
	return &store{bytes: make([]byte, inputBytes), fields: make([]wire.Field, 0, 32)}
}}

// input is what was read from a connection and not used yet. It holds memory only
// while there is something.
type input struct {
	store *store
	r, w  int // store.bytes[r:w] is there
}

func (in *input) len() int { return in.w - in.r }

// bytes is what is there, valid until the next call.
func (in *input) bytes() []byte {
	if in.store == nil {
		return nil
	}
	return in.store.bytes[in.r:in.w]
}

// skip uses up n bytes.
func (in *input) skip(n int) { in.r += n }

// put adds one byte.
func (in *input) put(b byte) {
	in.room()
	in.store.bytes[in.w] = b
	in.w++
}

// room makes room for at least one byte.
func (in *input) room() {
	if in.store == nil {
		in.store = storePool.Get().(*store)
		in.r, in.w = 0, 0
	}
	if in.w < len(in.store.bytes) {
		return
	}
	b := in.store.bytes
	if in.r > 0 {
		in.w = copy(b, b[in.r:])
		in.r = 0
		return
	}
	in.store.bytes = make([]byte, 2*len(b))
	copy(in.store.bytes, b)
}

// read reads once from src, at most until limit bytes are there.
func (in *input) read(src io.Reader, limit int) error {
	in.room()
	n, err := src.Read(in.store.bytes[in.w:min(len(in.store.bytes), in.r+limit)])
	in.w += n
	if n > 0 {
		return nil // an error that came with bytes will come again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// keep adds what was read past the end of a body.
func (in *input) keep(b []byte) {
	for len(b) > 0 {
		in.room()
		n := copy(in.store.bytes[in.w:], b)
		in.w += n
		b = b[n:]
	}
}

// release gives the memory back, if there is nothing left.
func (in *input) release() {
	if in.store != nil && in.r == in.w {
		in.drop()
	}
}

// drop gives the memory back.
func (in *input) drop() {
	if in.store != nil {
		if len(in.store.bytes) == inputBytes {
			storePool.Put(in.store)
		}
		in.store = nil
	}
	in.r, in.w = 0, 0
}

// unread puts back b, the last of what was read, in front of the rest.
func (in *input) unread(b []byte) {
	if len(b) == 0 {
		return
	}
	if in.store != nil && in.r >= len(b) {
		in.r -= len(b)
		copy(in.store.bytes[in.r:], b)
		return
	}
	rest := append([]byte(nil), in.bytes()...)
	in.r, in.w = 0, 0
	in.keep(b)
	in.keep(rest)
}

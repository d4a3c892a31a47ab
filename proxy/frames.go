package proxy

import (
	"crypto/rand"
	"encoding/binary"
)

// frames follows one direction of a WebSocket from frame to frame (RFC 6455,
// 5.2) without looking into them.
type frames struct {
	head    [14]byte // of the frame under way, as far as it is there
	have    int      // bytes of head; 0 = the header is done with
	left    uint64   // bytes of payload that are to come
	closing bool     // a close frame came by
}

// between reports whether the stream is between two frames.
func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

// advance takes p as the next bytes of the stream and returns how many: all of
// them, or, without all, those up to the first end of a frame.
func (f *frames) advance(p []byte, all bool) int {
	for n := 0; ; {
		if n == len(p) || n > 0 && !all && f.between() {
			return n
		}
		if f.left > 0 {
			step := min(f.left, uint64(len(p)-n))
			f.left -= step
			n += int(step)
			continue
		}
		f.head[f.have] = p[n]
		f.have++
		n++
		if f.have >= 2 && f.have == f.headLength() {
			f.begin()
		}
	}
}

// headLength is the length of a frame's header by its second byte.
func (f *frames) headLength() int {
	length := 2
	switch f.head[1] & 0x7f {
	case 126:
		length += 2
	case 127:
		length += 8
	}
	if f.head[1]&0x80 != 0 {
		length += 4 // masking key
	}
	return length
}

// begin is called when the header is whole.
func (f *frames) begin() {
	const opcodeClose = 8
	switch n := f.head[1] & 0x7f; n {
	case 126:
		f.left = uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		f.left = binary.BigEndian.Uint64(f.head[2:])
	default:
		f.left = uint64(n)
	}
	f.closing = f.closing || f.head[0]&0x0f == opcodeClose
	f.have = 0
}

// closeFrame is a close frame with a status code; a client's is masked.
func closeFrame(code int, masked bool) []byte {
	const fin, opcodeClose, mask = 0x80, 8, 0x80
	if !masked {
		return []byte{fin | opcodeClose, 2, byte(code >> 8), byte(code)}
	}
	var key [4]byte
	rand.Read(key[:]) // never fails
	return []byte{fin | opcodeClose, mask | 2, key[0], key[1], key[2], key[3], byte(code>>8) ^ key[0], byte(code) ^ key[1]}
}

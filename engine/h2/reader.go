package h2

import (
	"io"
	"sync/atomic"
)

// reader reads the connection frame by frame. While it waits for the first byte of a
// frame it holds no buffer.
type reader struct {
	c     *Conn
	buf   []byte // borrowed; nil = there is nothing
	large bool   // memory was taken for a large one
	next  int    // buf[next:] is not consumed yet
	one   [1]byte
	data  int  // size of the previous frame if that was DATA: the next may be as large
	late  bool // the watchdog looks after us, as a header is incomplete
	block bool // between a HEADERS frame and the end of its block

	asleep atomic.Bool // waits for a frame; to other goroutines only a guess

	guard guard
	head  head

	greeted bool // the client's first SETTINGS came
}

func (r *reader) init(c *Conn) {
	r.c = c
	r.late = true // until the client has introduced itself
	r.guard.init()
	r.head.init(c.limits.HeaderBytes)
}

// frame returns the next frame, whole. Its payload is valid until the next call.
func (r *reader) frame() (frame, error) {
	r.onTime()
	b, err := r.peek(frameHeader)
	if err != nil {
		return frame{}, err
	}
	if isBody(b) {
		r.onTime() // how fast a body arrives is limited elsewhere, while a handler reads it
	}
	length := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if length > maxFrame {
		return frame{}, connError{codeFrameSize, "frame too large"}
	}
	f := frame{
		kind: frameType(b[3]), flags: b[4],
		stream: (uint32(b[5])<<24 | uint32(b[6])<<16 | uint32(b[7])<<8 | uint32(b[8])) & maxWindow,
	}
	if b, err = r.peek(frameHeader + length); err != nil {
		return frame{}, err
	}
	f.payload = b[frameHeader:]
	r.skip(frameHeader + length)
	r.data = 0
	if f.kind == frameData {
		r.data = frameHeader + length
	}
	return f, nil
}

// peek returns the next n bytes, all of which must then be consumed with skip.
func (r *reader) peek(n int) ([]byte, error) {
	for len(r.buf)-r.next < n {
		if err := r.fill(n); err != nil {
			return nil, err
		}
	}
	return r.buf[r.next : r.next+n], nil
}

// skip consumes n bytes. They stay valid until the next peek.
func (r *reader) skip(n int) { r.next += n }

// fill reads at least one more of the n bytes that are wanted.
func (r *reader) fill(n int) error {
	if r.next == len(r.buf) {
		return r.wait(n)
	}
	r.settle()
	have := r.buf[r.next:]
	if n > len(have) && !isBody(have) {
		r.begun()
	}
	switch {
	case n > cap(r.buf):
		small := r.buf
		r.buf = append(r.borrow(n), have...)
		giveBack(small)
		r.next = 0
	case r.next+n > cap(r.buf):
		r.buf = append(r.buf[:0], have...)
		r.next = 0
	}
	return r.readMore()
}

// wait waits for the first byte of a frame, and reads what else is there by then.
func (r *reader) wait(n int) error {
	r.release()
	r.settle()
	if r.block {
		r.begun()
	}
	r.asleep.Store(true)
	m, err := r.c.conn.Read(r.one[:])
	r.asleep.Store(false)
	if m == 0 {
		return err
	}
	r.buf = append(r.borrow(max(n, r.data)), r.one[0])
	r.next = 0
	if err != nil {
		return err
	}
	return r.readMore()
}

// settle has our answers to what was read so far written, and waits if there are too
// many of them: a client that does not read them is not read from.
func (r *reader) settle() {
	c := r.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kick()
	for len(c.out) > maxOut && c.writeErr == nil && !c.closing {
		c.changed.Wait()
	}
}

// begun makes the watchdog look after a header that is incomplete.
func (r *reader) begun() {
	if !r.late {
		r.late = true
		r.c.headerBegun()
	}
}

// onTime calls the watchdog off if no header is awaited any more.
func (r *reader) onTime() {
	if r.late && !r.block && r.greeted {
		r.late = false
		r.c.headerEnded()
	}
}

func (r *reader) readMore() error {
	have := len(r.buf)
	m, err := r.c.conn.Read(r.buf[have:cap(r.buf)])
	r.buf = r.buf[:have+m]
	if err == io.EOF && m == 0 {
		return io.ErrUnexpectedEOF
	}
	if m > 0 {
		return nil // an error will come again
	}
	return err
}

// borrow returns a buffer for a frame of n bytes, and for what follows it if that
// is a long one and memory is not scarce.
func (r *reader) borrow(n int) []byte {
	if n <= frameBuffer {
		return borrow(n)
	}
	if r.large = r.large || r.c.memory.Take(largeBuffer); r.large {
		return borrow(largeBuffer)
	}
	return make([]byte, 0, n)
}

func (r *reader) release() {
	giveBack(r.buf)
	r.buf, r.next = nil, 0
	if r.large {
		r.large = false
		r.c.memory.Give(largeBuffer)
	}
}

// drain discards what comes until the connection's end or its deadline.
func (r *reader) drain() {
	r.release()
	b := borrow(smallBuffer)
	defer giveBack(b)
	for {
		if _, err := r.c.conn.Read(b[:cap(b)]); err != nil {
			return
		}
	}
}

// isBody reports whether b is the beginning of a DATA frame.
func isBody(b []byte) bool { return len(b) >= frameHeader && frameType(b[3]) == frameData }

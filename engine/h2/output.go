package h2

import (
	"encoding/binary"
	"runtime"
	"slices"
	"time"
)

const (
	// maxOut is how much may wait to be written before handlers have to wait:
	// four TLS records, each with one full frame of a long body.
	maxOut  = 4 * (frameHeader + maxData)
	maxData = 16<<10 - frameHeader

	// scarceOut is the same when memory is scarce.
	scarceOut = smallBuffer

	// outMemory is what is taken for more: one buffer is written, one filled.
	outMemory = 2 * largeBuffer

	// minPiece is the least room for which a frame is cut in two.
	minPiece = 4 << 10

	// rearm is how old a write deadline may become before it is set anew: setting
	// one costs as much as a small frame.
	rearm = time.Second
)

// room makes room in c.out for n more bytes. As long as c.out stays within its limits,
// that takes no allocation.
func (c *Conn) room(n int) {
	need := len(c.out) + n
	if need <= cap(c.out) {
		return
	}
	old := c.out
	switch {
	case need <= smallBuffer:
		c.out = borrow(need)
	case need <= largeBuffer && c.mayBeLarge():
		c.out = append(borrow(largeBuffer), old...)
	default:
		c.out = slices.Grow(old, n)
	}
	giveBack(old)
}

// mayBeLarge reports whether the output may have large buffers, until it is
// written.
func (c *Conn) mayBeLarge() bool {
	c.large = c.large || c.memory.Take(outMemory)
	return c.large
}

// shrink gives back what mayBeLarge took.
func (c *Conn) shrink() {
	if c.large {
		c.large = false
		c.memory.Give(outMemory)
	}
}

// space is for how much data of a frame that would have n bytes there is room.
func (c *Conn) space(n int) int {
	most := scarceOut
	if len(c.out)+frameHeader+n > smallBuffer && c.mayBeLarge() {
		most = maxOut
	}
	return most - len(c.out) - frameHeader
}

// kick makes a worker write c.out soon.
func (c *Conn) kick() {
	if !c.flushing && len(c.out) > 0 && c.serving {
		c.flushing = true
		c.workers.Do((*flushing)(c))
	}
}

// flushing is the workers.Job that writes the output.
type flushing Conn

func (f *flushing) Do() { (*Conn)(f).flush(false) }

// flush writes the output until there is none. The caller has set c.flushing. Streams
// that are ready may first add theirs, unless the caller knows that it is alone.
func (c *Conn) flush(alone bool) {
	if !alone {
		runtime.Gosched()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && c.writeErr == nil {
		b := c.out
		c.out = nil
		c.nextTurn()
		if !c.paced && !c.closing && time.Since(c.armed) >= min(rearm, c.limits.WriteTimeout/8) {
			c.armed = c.now()
			_ = c.conn.SetWriteDeadline(c.armed.Add(c.limits.WriteTimeout)) // before hangUp may set a shorter one
		}
		c.mu.Unlock()
		_, err := c.conn.Write(b)
		giveBack(b)
		c.mu.Lock()
		if err != nil { // the client does not hear us any more
			c.writeErr = err
			_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // ends the reading goroutine, which ends everything
		}
		c.changed.Broadcast()
	}
	if c.closing && !c.ended && c.writeErr == nil {
		linger := c.linger
		c.mu.Unlock()
		c.farewell(linger)
		c.mu.Lock()
	}
	c.flushing = false
	if len(c.out) == 0 {
		c.shrink()
	}
	c.changed.Broadcast()
}

// reserve waits until st may send some of n bytes of data, and returns how
// many. Their frame must be appended before the lock is released.
func (c *Conn) reserve(st *stream, n int) (int, error) {
	for {
		turn := len(c.turns) == 0 || c.turns[0] == st // late comers queue up
		m := min(n, maxData)
		switch {
		case st.err != nil:
			c.leaveTurns(st)
			c.nextTurn()
			return 0, st.err
		case st.sendWindow <= 0:
			c.leaveTurns(st)
			c.nextTurn()
			c.kick()
			st.waits()
			st.writable.Wait()
		case turn && c.sendWindow > 0 && c.space(m) >= min(m, minPiece):
			c.leaveTurns(st)
			m = int(min(int64(min(m, c.space(m))), st.sendWindow, c.sendWindow))
			st.waitsSince = time.Time{}
			st.sendWindow -= int64(m)
			c.sendWindow -= int64(m)
			return m, nil
		default:
			c.queueUp(st)
		}
	}
}

// waits notes that a Write waits for the client, or, if the handler has returned, that
// the end of its answer does.
func (st *stream) waits() {
	if !st.waitsSince.IsZero() {
		return
	}
	st.waitsSince = st.c.now()
	if st.writer.done {
		st.returned = true
		st.c.watchBy(st.waitsSince.Add(st.c.limits.WriteTimeout))
	}
}

// waitRoom waits until the output has room for something that no window limits, or
// st has ended.
func (c *Conn) waitRoom(st *stream) error {
	for st.err == nil && len(c.out) >= maxOut {
		c.changed.Wait()
	}
	return st.err
}

// queueUp waits for st's turn to use the connection's window and output, or for the
// end of st. It is the turn of the first of c.turns once that is not queued any more.
func (c *Conn) queueUp(st *stream) {
	if !slices.Contains(c.turns, st) {
		c.turns = append(c.turns, st)
	}
	st.queued = true
	c.kick()
	st.waits()
	for st.queued && st.err == nil {
		st.writable.Wait()
	}
}

func (c *Conn) leaveTurns(st *stream) {
	if i := slices.Index(c.turns, st); i >= 0 {
		c.turns = slices.Delete(c.turns, i, i+1)
		st.queued = false
	}
}

// nextTurn gives the turn to the stream that has waited longest, if no other has it
// and there is room. A stream that had its turn must call nextTurn.
func (c *Conn) nextTurn() {
	if len(c.turns) == 0 || !c.turns[0].queued || c.sendWindow <= 0 || c.space(minPiece) < minPiece {
		return
	}
	st := c.turns[0]
	c.moved = c.now()
	st.queued = false
	st.waitsSince = c.moved // the time of the others' turns does not count
	st.writable.Signal()
}

func (c *Conn) appendReset(stream uint32, code errCode) {
	c.room(frameHeader + 4)
	c.out = appendUint32(appendFrame(c.out, frameRSTStream, 0, stream, 4), uint32(code))
}

func appendWindowUpdate(b []byte, stream uint32, n int) []byte {
	return appendUint32(appendFrame(b, frameWindowUpdate, 0, stream, 4), uint32(n))
}

func appendUint32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

package h2

import (
	"encoding/binary"
	"runtime"
	"slices"
	"time"
)

const (
	// maxOut is how much may wait to be written before handlers wait: four
	// records of TLS, each with one full frame of a long body.
	maxOut  = 4 * (frameHeader + maxData)
	maxData = 16<<10 - frameHeader

	// minPiece is the least room for which a frame is cut in two.
	minPiece = 4 << 10

	// rearm is how old a write deadline may be at most before it is set anew:
	// setting one costs as much as a small frame.
	rearm = time.Second
)

// room makes c.out able to take n more bytes without a new allocation, if its
// limits are kept.
func (c *Conn) room(n int) {
	need := len(c.out) + n
	switch {
	case need <= cap(c.out):
	case c.out == nil && need <= smallBuffer:
		c.out = borrow(need)
	case need <= largeBuffer:
		small := c.out
		c.out = append(borrow(largeBuffer), small...)
		giveBack(small)
	default:
		old := c.out
		c.out = slices.Grow(old, n)
		giveBack(old)
	}
}

// kick has c.out written soon.
func (c *Conn) kick() {
	if !c.flushing && len(c.out) > 0 && c.serving {
		c.flushing = true
		c.workers.Do((*flushing)(c))
	}
}

// flushing is the workers.Job to write the output.
type flushing Conn

func (f *flushing) Do() { (*Conn)(f).flush(false) }

// flush writes the output until there is none. Whoever calls it has set
// c.flushing. The streams that are ready may add theirs first, unless it is said
// that there are none.
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
			_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // ends the reading goroutine, and that everything
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
	c.changed.Broadcast()
}

// reserve waits until st may send some of n bytes of data, and returns how
// many. Their frame must be appended before the lock is released.
func (c *Conn) reserve(st *stream, n int) (int, error) {
	for {
		turn := len(c.turns) == 0 || c.turns[0] == st // who comes late queues up
		m := min(n, maxData)
		space := maxOut - len(c.out) - frameHeader
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
		case turn && c.sendWindow > 0 && (space >= m || space >= minPiece):
			c.leaveTurns(st)
			m = int(min(int64(min(m, space)), st.sendWindow, c.sendWindow))
			st.waitsSince = time.Time{}
			st.sendWindow -= int64(m)
			c.sendWindow -= int64(m)
			return m, nil
		default:
			c.queueUp(st)
		}
	}
}

// waits notes that a Write waits for the client, or the end of an answer whose
// handler has returned.
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

// waitRoom waits until the output may take something that no window limits.
func (c *Conn) waitRoom(st *stream) error {
	for st.err == nil && len(c.out) >= maxOut {
		c.changed.Wait()
	}
	return st.err
}

// queueUp waits for st's turn to use the connection's window and output, or
// for the end of st. The first of c.turns that is not queued any more has its turn.
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

// nextTurn gives the turn to the stream that waits longest, if nobody has it and
// there is something to be had. Who had it must call nextTurn again.
func (c *Conn) nextTurn() {
	if len(c.turns) == 0 || !c.turns[0].queued || c.sendWindow <= 0 || maxOut-len(c.out)-frameHeader < minPiece {
		return
	}
	st := c.turns[0]
	c.moved = c.now()
	st.queued = false
	st.waitsSince = c.moved // that of the others is not its own
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

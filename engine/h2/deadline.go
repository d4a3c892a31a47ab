package h2

import (
	"fmt"
	"os"
	"time"
)

// SetReadDeadline is what http.ResponseController calls. A deadline that has
// passed ends the reading of the request's body for good.
func (w *responseWriter) SetReadDeadline(t time.Time) error {
	return w.st.setDeadline(&w.st.readBy, t)
}

// SetWriteDeadline is what http.ResponseController calls. A deadline that has
// passed ends the stream.
func (w *responseWriter) SetWriteDeadline(t time.Time) error {
	return w.st.setDeadline(&w.st.writeBy, t)
}

// setDeadline sets one of st's deadlines, unless the handler has returned. One
// that is past has its effect before setDeadline returns.
func (st *stream) setDeadline(deadline *time.Time, t time.Time) error {
	c := st.c
	if st.writer.done || c == nil { // nil = it is nobody's just now, as a late call may come from any goroutine
		return errHandlerDone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	*deadline = t
	if t.IsZero() || st.err != nil {
		return nil
	}
	if now := time.Now(); t.After(now) {
		c.watchBy(t)
	} else {
		st.expire(now)
		c.kick()
	}
	return nil
}

// expire does what is due because a deadline has passed, and returns the next one;
// zero = none. Conn.mu is held.
func (st *stream) expire(now time.Time) (next time.Time) {
	if st.answered() { // the handler's deadlines do not matter any more
		if st.resetBy.After(now) {
			return st.resetBy
		}
		st.c.resetAnswered(st)
		return time.Time{}
	}
	if !st.readBy.IsZero() && !st.readBy.After(now) {
		st.readBy = time.Time{}
		st.body.end(fmt.Errorf("h2: reading the request: %w", os.ErrDeadlineExceeded))
	}
	if !st.writeBy.IsZero() && !st.writeBy.After(now) {
		st.c.appendReset(st.id, codeInternal)
		st.c.closeStream(st, endedByUs, fmt.Errorf("h2: writing the answer: %w", os.ErrDeadlineExceeded))
		return time.Time{}
	}
	return earlier(st.stalled(now), earlier(st.readBy, st.writeBy))
}

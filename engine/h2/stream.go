package h2

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"detour/engine/lifetime"
)

var (
	errClientGone  = errors.New("h2: client disconnected")
	errHandlerDone = errors.New("h2: the handler has returned")
	errCutShort    = errors.New("h2: the client ended its request before the Content-Length, as it has an answer")
)

// stream is one request and its answer.
type stream struct {
	c       *Conn
	id      uint32
	request http.Request
	context lifetime.Context
	body    requestBody
	hasBody bool // the client sends one; otherwise body is not used
	writer  responseWriter

	bare   http.Request // what request begins as: with the context, which only net/http can put there
	header http.Header  // of the request, to be used again
	url    url.URL      // of the request, if its path is plain

	writable sync.Cond // its window grew, its turn came, or it ended
	streamState
}

// streamState is what Conn.mu guards of a stream.
type streamState struct {
	err        error     // why it ended for its handler; nil = it has not
	queued     bool      // it is in c.turns, and it is not its turn
	waitsSince time.Time // since when a Write waits for a window or its turn, or since its turn began; zero = none waits
	silent     bool      // it may be, by design: ProgressTimeout does not apply
	returned   bool      // the handler has: WriteTimeout applies to what still waits
	sendWindow int64
	recvWindow int64
	recvUnsent int   // what the client may send beyond that, but was not told yet
	declared   int64 // Content-Length; -1 = none
	missing    int64 // of declared
	recvEnded  bool
	started    bool      // has a handler
	readBy     time.Time // deadlines of the handler; zero = none
	writeBy    time.Time
	resetBy    time.Time // it is answered before all of the request has come, and reset at the latest then; zero = it is not
}

// open opens the stream of a request, which is handled at once, or as soon as there
// are fewer handlers than Limits.Streams.
func (c *Conn) open(st *stream) {
	st.sendWindow = c.peerWindow
	st.recvWindow = int64(c.limits.StreamWindow)
	c.streams[st.id] = st
	c.waiting = append(c.waiting, st)
	c.wake()
}

// endRecv notes that the client has sent all of the request.
func (c *Conn) endRecv(st *stream) {
	st.recvEnded = true
	st.body.end(io.EOF)
	if st.answered() {
		c.closeStream(st, endedOrderly, errHandlerDone)
	}
}

// endSend notes that all of the answer was sent. If the client still sends its
// request it is told that nobody wants the rest (RFC 9113, section 8.1), once it
// had the answer: a PING follows that, and the reset the acknowledgement. Until
// then the stream is there, but gets no more window. A client that can end its
// request is told only after a while (lingerOrderly): it is about to, and may take a
// reset for a failure, as curl (7.88) and httpx do.
func (c *Conn) endSend(st *stream) {
	c.earned += earnedAnswer
	switch {
	case st.recvEnded:
		c.closeStream(st, endedOrderly, errHandlerDone)
	case st.resetAtOnce():
		c.resetAnswered(st)
	default:
		c.detach(st, errHandlerDone)
		st.resetBy = time.Now().Add(lingerOrderly)
		c.watchBy(st.resetBy)
		c.ping(answeredPing(st.id))
	}
}

// resetAtOnce reports whether the reset must not come later than the end of the
// answer. curl (7.88) drops an answer, or the end of it, that it reads together
// with a reset. But after a success it does not read at all until its request is
// sent, for which we give it no window: without a reset it would wait for ever.
func (st *stream) resetAtOnce() bool { return st.writer.status < 300 && !st.canEnd() }

// canEnd reports whether the client will end its request without our help: it needs
// no more window. But if the answer has no body, curl (7.88) sends nothing more, and
// waits for the reset.
func (st *stream) canEnd() bool {
	return st.missing == 0 || 0 < st.missing && st.missing <= st.recvWindow && st.writer.written > 0
}

// answered reports whether st is one that only waits for its reset.
func (st *stream) answered() bool { return !st.resetBy.IsZero() }

// resetAnswered ends a stream whose client had the answer, or time enough for it.
func (c *Conn) resetAnswered(st *stream) {
	c.appendReset(st.id, codeNo)
	c.closeStream(st, endedByUs, errHandlerDone)
}

// reset ends the stream id with RST_STREAM. st is nil if it is closed already.
func (c *Conn) reset(id uint32, st *stream, code errCode, reason string) {
	if !c.closing {
		c.appendReset(id, code)
	}
	if st == nil {
		c.past.add(id, endedByUs)
		return
	}
	c.closeStream(st, endedByUs, streamError{code, reason})
}

// detach ends a stream for its handler, which may still be running.
func (c *Conn) detach(st *stream, err error) {
	if st.err != nil {
		return
	}
	st.err = err
	st.context.Cancel() // first, as whoever finds the body broken off asks it why
	if st.hasBody {
		st.body.end(err)
	}
	st.writable.Signal()
	c.changed.Broadcast()
}

// closeStream ends a stream for both sides. Its handler may still be running.
func (c *Conn) closeStream(st *stream, how ending, err error) {
	if c.streams[st.id] != st {
		return
	}
	delete(c.streams, st.id)
	c.past.add(st.id, how)
	c.detach(st, err)
	if !st.started {
		c.waiting = slices.DeleteFunc(c.waiting, func(other *stream) bool { return other == st })
		c.credit(nil, st.body.discard())
	}
	if len(c.streams) == 0 {
		c.idle = c.now()
		if c.final {
			c.hangUp(c.limits.WriteTimeout, lingerOrderly)
		}
	}
}

// credit lets the client send n bytes more, on the connection and, if st is not nil,
// on st. The client is told in steps of a quarter of a window: with larger ones it
// would have to wait for an update on its way, smaller ones would cost more writes.
func (c *Conn) credit(st *stream, n int) {
	if c.recvUnsent += int64(n); c.recvUnsent >= c.window/4 && !c.closing {
		c.tellWindow()
	}
	if st == nil || st.recvEnded || st.err != nil {
		return
	}
	if st.recvUnsent += n; st.recvUnsent >= c.limits.StreamWindow/4 && !c.closing {
		c.room(frameHeader + 4)
		c.out = appendWindowUpdate(c.out, st.id, st.recvUnsent)
		st.recvWindow += int64(st.recvUnsent)
		st.recvUnsent = 0
	}
}

// tellWindow tells the client that it may send recvUnsent bytes more.
func (c *Conn) tellWindow() {
	c.room(frameHeader + 4)
	c.out = appendWindowUpdate(c.out, 0, int(c.recvUnsent))
	c.recvWindow += c.recvUnsent
	c.recvUnsent = 0
}

// widenWindow doubles the connection's window, up to its limit, when half of it was
// used since the last time. If memory is scarce, the window stays as it is. The
// client's TCP starts no faster than the window grows, so no upload waits for it.
func (c *Conn) widenWindow() {
	if c.received < c.window-firstWindow/2 {
		return
	}
	more := min(c.window, int64(c.limits.ConnWindow)-c.window)
	if more > 0 && !c.closing && c.memory.Take(int(more)) {
		c.window += more
		c.recvUnsent += more
		c.tellWindow()
	}
}

// setSilent lifts ProgressTimeout for st.
func (st *stream) setSilent() {
	st.c.mu.Lock()
	defer st.c.mu.Unlock()
	st.silent = true
}

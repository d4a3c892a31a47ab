package proxy

import (
	"container/list"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// holdAtMost bounds the requests of one host that wait. Each costs some
	// kilobytes and its client's connection.
	holdAtMost = 1000
	// holdRetry is how often the first in the queue tries the upstream: often
	// enough that nobody notices, and nothing to a machine that refuses.
	holdRetry = 100 * time.Millisecond
)

// holdQueue holds the requests of one host whose upstream takes no
// connection, in the order of their arrival. Only the first tries, with its own
// request, again and again; once it has a connection, the next has its turn.
// So a dead upstream is dialled by one, a new one is not run over, and nobody
// needs a prober. The zero value is an empty queue.
type holdQueue struct {
	length atomic.Int32 // of waiting, for those who pass by

	mu      sync.Mutex // guards what follows
	waiting list.List  // of *held, the oldest first
	closed  bool       // only those who stay may join
}

// held is a place in a holdQueue.
type held struct {
	arrived time.Time
	stays   bool          // also when the host goes offline
	turn    chan struct{} // closed when it is the first, or sent away

	place *list.Element // nil when it left; guarded by the queue's mu
	away  bool          // sent away; guarded by the queue's mu
}

// join takes a place behind all who arrived earlier, unless h has one. It
// reports false when the queue is full or closed.
func (q *holdQueue) join(h *held) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case h.place != nil:
		return true
	case q.waiting.Len() >= holdAtMost, q.closed && !h.stays:
		return false
	}
	earlier := q.waiting.Back()
	for earlier != nil && earlier.Value.(*held).arrived.After(h.arrived) {
		earlier = earlier.Prev()
	}
	h.turn = make(chan struct{})
	if earlier != nil {
		h.place = q.waiting.InsertAfter(h, earlier)
	} else {
		h.place = q.waiting.PushFront(h)
		close(h.turn) // who had the turn keeps it as well
	}
	q.length.Store(int32(q.waiting.Len()))
	return true
}

// leave gives the place up, if it was not yet, and the turn to the next.
func (q *holdQueue) leave(h *held) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if h.place == nil {
		return
	}
	first := q.waiting.Front() == h.place
	q.waiting.Remove(h.place)
	h.place = nil
	q.length.Store(int32(q.waiting.Len()))
	if !first || q.waiting.Len() == 0 {
		return
	}
	next := q.waiting.Front().Value.(*held)
	select {
	case <-next.turn: // it has its turn already
	default:
		close(next.turn)
	}
}

// admit says whether requests may wait from now on. If not, their host is
// offline or gone, and the waiting of all who do not stay ends.
func (q *holdQueue) admit(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed = !all; all {
		return
	}
	for e := q.waiting.Front(); e != nil; e = e.Next() {
		h := e.Value.(*held)
		if h.stays || h.away {
			continue
		}
		h.away = true
		select {
		case <-h.turn:
		default:
			close(h.turn)
		}
	}
}

// sentAway reports whether h need not wait any more.
func (q *holdQueue) sentAway(h *held) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return h.away
}

// hold is try for a host whose requests rather wait than fail while the
// upstream restarts. The body is not read meanwhile. It gives up when the
// route's time is over, the host goes offline, or the client leaves; that a
// client of HTTP/1 leaves in the middle of a body cannot be seen without
// reading it.
func (f *forwarding) hold(out *http.Request) (*http.Response, error) {
	f.connecting.Store(true)
	q := &f.rt.Stats.queue
	h := &held{arrived: time.Now(), stays: f.bypass}
	failure := errNoConnection
	if q.length.Load() == 0 { // else those who wait come first
		res, err := f.try(out)
		if err == nil || !f.worthWaiting(out, err) {
			return res, err
		}
		failure = err
	}
	if !q.join(h) {
		return nil, failure
	}
	defer q.leave(h)
	f.held.Store(h) // leaves when there is a connection
	if f.rec.Action == actionProxy {
		f.rec.Action = actionHold
	}
	over := time.NewTimer(f.rt.Hold)
	defer over.Stop()
	for {
		select {
		case <-h.turn:
		case <-over.C:
			return nil, failure
		case <-out.Context().Done():
			return nil, out.Context().Err()
		}
		if q.sentAway(h) {
			return nil, failure
		}
		res, err := f.try(out)
		if err == nil || !f.worthWaiting(out, err) || !q.join(h) {
			return res, err
		}
		failure = err
		select {
		case <-time.After(holdRetry):
		case <-over.C:
			return nil, failure
		case <-out.Context().Done():
			return nil, out.Context().Err()
		}
	}
}

// worthWaiting reports whether out may be sent again once the upstream takes
// connections: nothing of it was sent, or, once, its connection was cut before
// a byte of the answer came and it is harmless to repeat, as when the upstream
// was stopped just then.
func (f *forwarding) worthWaiting(out *http.Request, err error) bool {
	switch {
	case f.Err() != nil:
		return false
	case f.unsent():
		return true
	case f.resent || !idempotent(out) || f.began.Load() || failureStatus(f.blame(err)) != http.StatusBadGateway:
		return false
	}
	f.resent = true
	f.connecting.Store(true) // again
	return true
}

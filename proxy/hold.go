package proxy

import (
	"net/http"
	"slices"
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

// holdQueue holds the requests of one host whose upstream takes no connection, in the
// order of their arrival. Only the first tries, with its own request, again and again;
// once it has a connection it is the next one's turn. So only one request dials a dead
// upstream, one that comes back is not overrun, and no prober is needed. The zero value
// is an empty queue.
type holdQueue struct {
	length atomic.Int32 // of waiting, for requests that need not wait

	mu      sync.Mutex // guards what follows
	waiting []*held    // the oldest first
	closed  bool       // only those that stay may join
}

// held is a place in a holdQueue.
type held struct {
	arrived time.Time
	stays   bool          // also when the host goes offline
	turn    chan struct{} // closed when it is the first, or sent away
	away    bool          // sent away; guarded by the queue's mu
}

// wake closes turn, unless it is closed. The queue's mu is held.
func (h *held) wake() {
	select {
	case <-h.turn:
	default:
		close(h.turn)
	}
}

// join takes a place behind all who arrived earlier, unless h has one. It
// reports false when the queue is full or closed.
func (q *holdQueue) join(h *held) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case slices.Contains(q.waiting, h):
		return true
	case len(q.waiting) >= holdAtMost, q.closed && !h.stays:
		return false
	}
	at := len(q.waiting)
	for at > 0 && q.waiting[at-1].arrived.After(h.arrived) {
		at--
	}
	q.waiting = slices.Insert(q.waiting, at, h)
	q.length.Store(int32(len(q.waiting)))
	h.turn = make(chan struct{})
	if at == 0 {
		h.wake() // the one that had the turn keeps it as well
	}
	return true
}

// leave gives up the place, if h still has it, and gives the turn to the next.
func (q *holdQueue) leave(h *held) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.waiting, h)
	if at < 0 {
		return
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
	q.length.Store(int32(len(q.waiting)))
	if at == 0 && len(q.waiting) > 0 {
		q.waiting[0].wake()
	}
}

// admit says whether requests may wait from now on. If not, their host is offline or
// gone, and all that do not stay wait no longer.
func (q *holdQueue) admit(all bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed = !all; all {
		return
	}
	for _, h := range q.waiting {
		if !h.stays {
			h.away = true
			h.wake()
		}
	}
}

// sentAway reports whether h need not wait any more.
func (q *holdQueue) sentAway(h *held) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return h.away
}

// hold is try for a host whose requests wait, rather than fail, while the upstream
// restarts. The body is not read meanwhile. It gives up when the route's time is over,
// the host goes offline, or the client leaves; that an HTTP/1 client leaves in the
// middle of its body cannot be seen without reading it.
func (f *forwarding) hold(out *http.Request) (*http.Response, error) {
	f.connecting.Store(true)
	q := &f.rt.Stats.queue
	h := &held{arrived: time.Now(), stays: f.bypass}
	failure := errNoConnection
	if q.length.Load() == 0 { // otherwise those that wait come first
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

package notify

import (
	"context"
	"slices"
	"sync"
	"time"
)

// queue sends one notice at a time, in the background. Those about one host go in
// order; one that waits for its next try does not hold back those of other hosts.
// Its goroutine lives while there is something to do.
type queue struct {
	ctx  context.Context // ends what is under way
	wake chan struct{}   // there is a new one; holds one

	mu      sync.Mutex // guards what follows
	waits   []*job     // the oldest first
	lost    int        // those that waited when ctx ended
	working bool
	full    bool // the oldest was dropped, and not everything has been done since
	closed  bool
	workers sync.WaitGroup
}

// job is one notice on its way.
type job struct {
	host string
	due  time.Time
	try  func(context.Context) (again time.Duration) // 0 = no more
}

func newQueue(ctx context.Context) *queue {
	return &queue{ctx: ctx, wake: make(chan struct{}, 1)}
}

// add puts a notice about host at the end. If there are too many, it drops the
// oldest; it reports the first such drop since the queue was last empty.
func (q *queue) add(host string, try func(context.Context) time.Duration) (overflows bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if len(q.waits) >= waiting {
		q.waits = q.waits[1:]
		q.full, overflows = true, !q.full
	}
	q.waits = append(q.waits, &job{host, time.Now(), try})
	if !q.working {
		q.working = true
		q.workers.Go(q.work)
	}
	select {
	case q.wake <- struct{}{}:
	default: // it is known already
	}
	return overflows
}

func (q *queue) work() {
	for {
		j, pause, done := q.next()
		switch {
		case done:
			return
		case j == nil:
			select {
			case <-q.ctx.Done():
			case <-q.wake:
			case <-time.After(pause):
			}
			continue
		}
		if again := j.try(q.ctx); again > 0 {
			q.mu.Lock()
			j.due = time.Now().Add(again)
			q.waits = slices.Insert(q.waits, 0, j) // older than all others of its host
			q.mu.Unlock()
		}
	}
}

// next takes out the notice that has been due for longest, or says how long until
// one is; done = none is left, or ctx has ended.
func (q *queue) next() (_ *job, pause time.Duration, done bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waits) == 0 || q.ctx.Err() != nil {
		q.lost += len(q.waits)
		q.waits, q.working, q.full = nil, false, false
		return nil, 0, true
	}
	first := -1
	hosts := make(map[string]bool, len(q.waits))
	for i, j := range q.waits {
		if !hosts[j.host] && (first < 0 || j.due.Before(q.waits[first].due)) {
			first = i
		}
		hosts[j.host] = true
	}
	j := q.waits[first]
	if pause = time.Until(j.due); pause > 0 {
		return nil, pause, false
	}
	q.waits = slices.Delete(q.waits, first, first+1)
	return j, 0, false
}

// close refuses new notices and waits until those that are there are sent, or ctx
// has ended. It returns how many were not sent.
func (q *queue) close() (lost int) {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.workers.Wait()
	lost, q.lost = q.lost, 0
	return lost
}

package notify

import (
	"context"
	"sync"
)

// queue does one thing after the other, in the background. Its goroutine lives
// while there is something to do.
type queue struct {
	ctx context.Context // ends what is under way

	mu      sync.Mutex // guards what follows
	todo    []func(context.Context)
	working bool
	full    bool // the oldest was dropped, and not everything has been done since
	closed  bool
	workers sync.WaitGroup
}

// add puts do at the end. If there are too many, it drops the oldest, and
// reports that for the first of them.
func (q *queue) add(do func(context.Context)) (overflows bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	if len(q.todo) == waiting {
		q.todo = q.todo[1:]
		q.full, overflows = true, !q.full
	}
	q.todo = append(q.todo, do)
	if !q.working {
		q.working = true
		q.workers.Go(q.work)
	}
	return overflows
}

func (q *queue) work() {
	for {
		q.mu.Lock()
		if len(q.todo) == 0 || q.ctx.Err() != nil {
			q.todo, q.working, q.full = nil, false, false
			q.mu.Unlock()
			return
		}
		do := q.todo[0]
		q.todo = q.todo[1:]
		q.mu.Unlock()
		do(q.ctx)
	}
}

// close refuses what comes and waits for what is there, or for ctx.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.workers.Wait()
}

// Package workers keeps goroutines whose stacks have grown to what their work
// needs: that of a new one would be copied, and thrown away, several times on the
// way down to a handshake or a handler.
package workers

import "sync"

// maxWaiting is how many workers of a Pool wait for the next Job, at 32 KiB of stack
// each at most. Only a crowd needs more at once.
const maxWaiting = 32

// Job is what a worker is to do. Do may end its goroutine (runtime.Goexit).
type Job interface{ Do() }

// Pool is a pool of workers, without a bound on those that work. The zero Pool is
// ready. Its methods may be called from several goroutines.
type Pool struct {
	mu      sync.Mutex // guards the rest; held for moments only
	waiting []chan Job // with room for one each; who came last has the warmest stack
	stopped bool       // no worker waits any more

	all sync.WaitGroup
}

// Do makes a worker do j at once, and does not wait for it.
func (p *Pool) Do(j Job) {
	p.mu.Lock()
	n := len(p.waiting) - 1
	if n < 0 {
		p.mu.Unlock()
		p.all.Go(func() { p.work(j) })
		return
	}
	w := p.waiting[n]
	p.waiting = p.waiting[:n]
	p.mu.Unlock()
	w <- j
}

// Stop makes workers end, from now on, as soon as they have nothing to do.
func (p *Pool) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, w := range p.waiting {
		close(w)
	}
	p.waiting = nil
}

// Wait waits, after Stop, until all workers have ended. Meanwhile nobody but they
// themselves may call Do.
func (p *Pool) Wait() { p.all.Wait() }

// work does j and the jobs after it.
func (p *Pool) work(j Job) {
	next := make(chan Job, 1)
	for ok := true; ok; j, ok = <-next {
		j.Do()
		if !p.wait(next) {
			return
		}
	}
}

// wait lets the worker of next wait there for its next Job, if it may.
func (p *Pool) wait(next chan Job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || len(p.waiting) >= maxWaiting {
		return false
	}
	p.waiting = append(p.waiting, next)
	return true
}

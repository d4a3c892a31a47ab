// Package workers keeps goroutines whose stacks have grown to what their work
// needs: a new one would have to copy its stack several times on the way down to a
// handshake or a handler, and leave as many behind.
package workers

import "sync"

// maxWaiting is how many workers of a Pool wait for the next Job, at 32 KiB of stack
// at most. More work at once only when a crowd comes.
const maxWaiting = 32

// Job is what a worker is to do. Do may end its goroutine (runtime.Goexit).
type Job interface{ Do() }

// Pool is a pool of workers, without a bound on those that work. The zero Pool is
// ready. Its methods may be called from several goroutines.
type Pool struct {
	mu      sync.Mutex // guards the rest; held for moments only
	waiting []chan Job // with room for one each; who came last has the warmest stack
	stopped bool       // no one waits any more

	all sync.WaitGroup
}

// Do has a worker do j, at once, and does not wait for it.
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

// Stop has the workers end when they have nothing to do, from now on.
func (p *Pool) Stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	for _, w := range p.waiting {
		close(w)
	}
	p.waiting = nil
}

// Wait waits, after Stop, for the workers to end. There must be no Do that the last
// of them does not do itself.
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

// wait has the worker of next wait there, if it is to.
func (p *Pool) wait(next chan Job) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || len(p.waiting) >= maxWaiting {
		return false
	}
	p.waiting = append(p.waiting, next)
	return true
}

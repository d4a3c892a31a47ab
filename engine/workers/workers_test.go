package workers

import (
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"weak"
)

type jobFunc func()

func (f jobFunc) Do() { f() }

// A worker that has nothing to do is used again; when all have something to do,
// another one comes; and no more than maxWaiting wait.
func TestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		var done atomic.Int32
		waiting := func() int {
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.waiting)
		}
		for range 3 {
			p.Do(jobFunc(func() { done.Add(1) }))
			if n := waiting(); n != 1 {
				t.Fatalf("%d workers wait after one job at a time; want 1", n)
			}
		}
		release := make(chan struct{})
		const crowd = maxWaiting + 10
		for range crowd {
			p.Do(jobFunc(func() { <-release; done.Add(1) }))
		}
		if n := waiting(); n != 0 {
			t.Errorf("%d workers wait while there are jobs; want none", n)
		}
		close(release)
		if n := waiting(); n != maxWaiting {
			t.Errorf("%d workers wait after a crowd; want %d", n, maxWaiting)
		}
		if n := done.Load(); n != 3+crowd {
			t.Errorf("%d jobs were done; want %d", n, 3+crowd)
		}
		p.Do(jobFunc(runtime.Goexit))
		if n := waiting(); n != maxWaiting-1 {
			t.Errorf("%d workers wait when one has ended its goroutine; want %d", n, maxWaiting-1)
		}
		p.Stop()
		p.Do(jobFunc(func() { done.Add(1) })) // the last ones, of who is not done yet
		p.Wait()
		if n := waiting(); n != 0 || done.Load() != 3+crowd+1 {
			t.Errorf("after Stop %d workers wait, and %d jobs are done; want none, and all", n, done.Load())
		}
	})
}

type largeJob struct{ _ [1 << 10]byte }

func (*largeJob) Do() {}

// A worker that waits does not hold on to what it has done.
func TestPoolForgetsJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pool
		defer p.Stop()
		for _, worker := range []string{"a new worker", "one that waited"} {
			j := new(largeJob)
			done := weak.Make(j)
			p.Do(j)
			synctest.Wait()
			runtime.GC()
			if done.Value() != nil {
				t.Errorf("%s keeps its job", worker)
			}
		}
	})
}

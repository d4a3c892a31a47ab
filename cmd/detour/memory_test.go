package main

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// What a busy time leaves behind goes back to the machine when it is over, once, and
// not while it lasts.
func TestGiveMemoryBack(t *testing.T) {
	const garbage = 64 << 20
	ctx, cancel := context.WithCancel(t.Context())
	look, done := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(done)
		giveMemoryBack(ctx, look)
	}()
	look <- time.Time{} // it has begun to count
	_, before := memory()
	for range 3 {
		fill(garbage)
		look <- time.Time{} // what it does at the one before is done
	}
	if _, n := memory(); n != before {
		t.Errorf("garbage was collected %d times in the middle of a busy time; want never", n-before)
	}
	for range 3 {
		look <- time.Time{} // nothing was allocated since the last one
	}
	cancel()
	<-done
	kept, n := memory()
	if n != before+1 {
		t.Errorf("garbage was collected %d times after a busy time; want once", n-before)
	}
	if kept > garbage/2 {
		t.Errorf("%d bytes are kept after a busy time; want the garbage of %d returned", kept, garbage)
	}
}

// fill makes garbage of so many bytes.
//
//go:noinline
func fill(n int) {
	b := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		b[i] = 1
	}
}

// memory returns how much memory the heap has of the machine, and how often its
// garbage was collected because somebody wanted it.
func memory() (kept uint64, forced uint32) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased, m.NumForcedGC
}

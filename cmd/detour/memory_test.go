package main

import (
	"context"
	"runtime"
	"testing"
	"time"
)

// What a busy time leaves behind goes back to the machine when it is over, and not
// while it lasts.
func TestGiveMemoryBack(t *testing.T) {
	const garbage = 64 << 20
	ctx, cancel := context.WithCancel(t.Context())
	look, done := make(chan time.Time), make(chan struct{})
	go func() {
		defer close(done)
		giveMemoryBack(ctx, look)
	}()
	look <- time.Time{} // it has begun to count
	fill(garbage)
	look <- time.Time{}
	if kept := keptMemory(); kept < garbage/2 {
		t.Errorf("%d bytes are kept in the middle of a busy time; want the garbage of %d among them", kept, garbage)
	}
	look <- time.Time{} // nothing was allocated since the last one
	cancel()
	<-done
	if kept := keptMemory(); kept > garbage/2 {
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

// keptMemory is how much memory the heap has of the machine.
func keptMemory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased
}

package main

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// heapFloor is memory that is never touched, and so takes none of the machine's,
// but that the garbage collector counts as in use: it lets as much more garbage
// come together before it runs. What lives here is 1 to 3 MiB, and the least
// heap of a Go program is 4, so that handshakes made it run 60 times a second
// and throw the pooled buffers away each time (bench's g and g-res, some 5 %).
// What grows by it is the memory of a gateway that is busy, by this much; a small
// machine still has it, and idle connections barely show it (bench's i).
const heapFloor = 8 << 20

// When the gateway looks whether a busy time is over, and what it is then.
const (
	memoryLook  = 2 * time.Second
	quietAllocs = 1 << 20 // bytes since the last look: less than some 200 requests a second
)

// giveMemoryBack has garbage collected and the memory returned to the machine at the
// first look after a busy time, until ctx ends. By itself the collector runs when as
// much garbage has come together as there was in use, or after two minutes, and
// most of what is free then stays with the process: a quarter of what 4,000 idle
// connections take, and all that a flood has left behind.
func giveMemoryBack(ctx context.Context, look <-chan time.Time) {
	before := allocated()
	clean := before // then nothing was left behind
	for {
		select {
		case <-ctx.Done():
			return
		case <-look:
		}
		now := allocated()
		if now-before < quietAllocs && now-clean > heapFloor {
			debug.FreeOSMemory()
			now = allocated()
			clean = now
		}
		before = now
	}
}

// allocated is how many bytes were ever allocated on the heap.
func allocated() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

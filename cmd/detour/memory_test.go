package main

import (
	"context"
	"math"
	"runtime"
	"testing"
	"testing/fstest"
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

func TestUsableMemory(t *testing.T) {
	const unit = "0::/system.slice/detour.service\n"
	const mib = 1 << 20
	tests := []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"unknown", nil, math.MaxInt64},
		{"the machine's", map[string]string{"proc/meminfo": "MemTotal:         524288 kB\nMemFree: 1 kB\n", "proc/self/cgroup": unit, "sys/fs/cgroup/system.slice/detour.service/memory.max": "max\n"}, 512 * mib},
		{"the unit's", map[string]string{"proc/meminfo": "MemTotal: 524288 kB\n", "proc/self/cgroup": unit, "sys/fs/cgroup/system.slice/detour.service/memory.max": "67108864\n"}, 64 * mib},
		{"the slice's", map[string]string{"proc/self/cgroup": unit, "sys/fs/cgroup/system.slice/detour.service/memory.max": "67108864\n", "sys/fs/cgroup/system.slice/memory.max": "50331648\n"}, 48 * mib},
		{"a container's", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "67108864\n"}, 64 * mib},
		{"version 1", map[string]string{"proc/self/cgroup": "5:devices:/a\n4:memory:/a/b\n0::/\n", "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "67108864\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 64 * mib},
		{"a container's, version 1", map[string]string{"proc/self/cgroup": "4:memory:/docker/0123\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "67108864\n"}, 64 * mib},
		{"a group of another namespace", map[string]string{"proc/self/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "67108864\n"}, 64 * mib},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := fstest.MapFS{}
			for name, text := range tt.files {
				root[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := usableMemory(root); got != tt.want {
				t.Errorf("usableMemory() = %d; want %d", got, tt.want)
			}
		})
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

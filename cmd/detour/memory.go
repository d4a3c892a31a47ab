package main

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
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

// limitMemory has garbage collected more often rather than that the process takes
// more than it may use, of which the kernel has a part, too. GOMEMLIMIT in the
// environment is the operator's word, and stays.
func limitMemory() {
	if most := usableMemory(os.DirFS("/")); os.Getenv("GOMEMLIMIT") == "" && most < math.MaxInt64 {
		debug.SetMemoryLimit(most/10*9 + heapFloor)
	}
}

// usableMemory is how many bytes of memory this process may use: those of the
// machine, or fewer if one of its control groups says so, as a container's or by
// MemoryMax= in the unit (cgroups(7)). math.MaxInt64 = unknown. root is the root of
// the file system.
func usableMemory(root fs.FS) int64 {
	most := int64(math.MaxInt64)
	info, _ := fs.ReadFile(root, "proc/meminfo")
	for line := range strings.Lines(string(info)) { // "MemTotal:         503012 kB"
		var kib int64
		if _, err := fmt.Sscanf(line, "MemTotal: %d kB", &kib); err == nil {
			most = kib << 10
		}
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) { // "0::/system.slice/detour.service", or in version 1, "4:memory:/docker/0123"
		_, line, _ = strings.Cut(strings.TrimSpace(line), ":")
		controller, group, _ := strings.Cut(line, ":")
		var dir, file string
		switch controller {
		case "":
			dir, file = "sys/fs/cgroup", "memory.max"
		case "memory":
			dir, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for {
			text, _ := fs.ReadFile(root, path.Join(dir, group, file))
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil { // not "max"
				most = min(most, n)
			}
			if group == "/" || group == "." {
				break
			}
			group = path.Dir(group) // its limit holds for all below it
		}
	}
	return most
}

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

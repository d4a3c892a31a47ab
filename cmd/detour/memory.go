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
// but that the garbage collector counts as in use, so that it lets as much more
// garbage gather before it runs. The gateway's live heap is 1 to 3 MiB, and the
// smallest heap of a Go program is 4: handshakes made the collector run 60 times a
// second, and empty the buffer pools each time (bench's g and g-res, some 5 %).
// The price is this much more memory in a gateway that is busy, which a small
// machine can spare; idle connections barely show it (bench's i).
const heapFloor = 8 << 20

// limitMemory has garbage collected more often when the process comes close to the
// memory it may use, a quarter of which is left for the kernel's part: its buffers of
// sockets count in a control group. An operator's GOMEMLIMIT stays in force.
func limitMemory() {
	if most := usableMemory(os.DirFS("/")); os.Getenv("GOMEMLIMIT") == "" && most < math.MaxInt64 {
		debug.SetMemoryLimit(most/4*3 + heapFloor)
	}
}

// usableMemory is how many bytes of memory this process may use: those of the
// machine, or fewer if a control group says so, such as a container's or that of a
// unit with MemoryMax= (cgroups(7)). math.MaxInt64 = unknown. root is the root of
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

const (
	// memoryLook is how often the gateway looks whether a busy time is over.
	memoryLook = 2 * time.Second
	// quietAllocs is how few bytes are allocated between two looks when it is: less
	// than some 200 requests a second.
	quietAllocs = 1 << 20
)

// giveMemoryBack collects garbage and returns the memory to the machine at the
// first look after a busy time, until ctx ends. By itself the collector runs when as
// much garbage has gathered as there is memory in use, or after two minutes, and
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

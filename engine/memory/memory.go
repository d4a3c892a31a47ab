// Package memory bounds what a process holds for work in flight.
package memory

import "sync/atomic"

// Budget is what large buffers, and windows that clients are given for uploads,
// may take together. Whoever gets nothing of it goes on with little, and waits for
// nobody: what is scarce costs time, not the process's life. nil has no bound. Its
// methods may be called from several goroutines.
type Budget struct {
	limit int64
	left  atomic.Int64
}

// share is the part of the process's memory that is the budget. As much again and
// more is needed by those who go on with little, and by the garbage.
const share = 8

// NewBudget returns the Budget of a process that may use limit bytes of memory, as
// runtime/debug.SetMemoryLimit has them.
func NewBudget(limit int64) *Budget {
	b := &Budget{limit: limit}
	b.left.Store(limit / share)
	return b
}

// Take reports whether n bytes are left, and takes them; Give must follow.
func (b *Budget) Take(n int) bool {
	if b == nil || b.left.Add(-int64(n)) >= 0 {
		return true
	}
	b.left.Add(int64(n))
	return false
}

// Give gives n bytes back.
func (b *Budget) Give(n int) {
	if b != nil {
		b.left.Add(int64(n))
	}
}

// small is the memory of a process whose sockets count: the kernel lets each have
// megabytes, and in a control group these are the process's.
const small = 512 << 20

// leastSocket is what is fast enough from not too far away.
const leastSocket = 64 << 10

// Socket is how many bytes the kernel may hold of what came for one connection, or
// is to be sent; 0 = as many as it likes.
func (b *Budget) Socket() int {
	if b == nil || b.limit >= small {
		return 0
	}
	return int(max(b.limit>>10, leastSocket))
}

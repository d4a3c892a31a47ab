package memory

import "testing"

func TestBudget(t *testing.T) {
	b := NewBudget(800)
	for _, n := range []int{60, 40, 0} {
		if !b.Take(n) {
			t.Errorf("Take(%d) = false; want an eighth of 800 bytes", n)
		}
	}
	if b.Take(1) {
		t.Error("Take(1) = true of a budget that is spent")
	}
	b.Give(60)
	if b.Take(61) || !b.Take(60) {
		t.Error("what was given back is not what can be taken")
	}
}

func TestNoBudget(t *testing.T) {
	var none *Budget
	if !none.Take(1<<30) || none.Socket() != 0 {
		t.Errorf("Take, Socket() = false or %d; want no bound", none.Socket())
	}
	none.Give(1)
}

func TestSocket(t *testing.T) {
	const mib = 1 << 20
	for limit, want := range map[int64]int{1: 64 << 10, 64 * mib: 64 << 10, 256 * mib: 256 << 10, 512 * mib: 0, 1<<63 - 1: 0} {
		if got := NewBudget(limit).Socket(); got != want {
			t.Errorf("Socket of %d MiB = %d; want %d", limit/mib, got, want)
		}
	}
}

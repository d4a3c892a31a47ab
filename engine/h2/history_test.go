package h2

import "testing"

// The last streams are remembered, and those before them forgotten.
func TestHistory(t *testing.T) {
	var h history
	const streams = 3*maxPast + maxPast/2
	for id := range uint32(streams) {
		h.add(id, endedByUs)
		for old := range id + 1 {
			want := endedByUs
			if old+maxPast <= id {
				want = notKnown
			}
			if got := h.of(old); got != want {
				t.Fatalf("after %d streams, of(%d) = %d; want %d", id+1, old, got, want)
			}
		}
	}
}

package h2

// ending is how a stream ended.
type ending uint8

const (
	notKnown     ending = iota // long ago, or never opened
	endedOrderly               // both sides said all they had to say
	endedByReset               // by the client
	endedByUs                  // by our RST_STREAM: the client may not have seen it yet
)

// history remembers how the last streams ended.
type history struct {
	past [128]struct { // as many as may end within a round trip, more or less
		id  uint32
		how ending
	}
	next int
}

func (h *history) add(id uint32, how ending) {
	h.past[h.next].id, h.past[h.next].how = id, how
	h.next = (h.next + 1) % len(h.past)
}

func (h *history) of(id uint32) ending {
	for i := range h.past {
		if h.past[i].id == id {
			return h.past[i].how
		}
	}
	return notKnown
}

package h2

// ending is how a stream ended.
type ending uint8

const (
	notKnown     ending = iota // it was long ago, or never opened
	endedOrderly               // both sides had sent everything
	endedByReset               // by the client's RST_STREAM
	endedByUs                  // by our RST_STREAM, which the client may not have seen yet
)

// history remembers how the last streams ended.
type history struct {
	past []ended // the oldest is the next to be forgotten, once there are maxPast
	next int
}

type ended struct {
	id  uint32
	how ending
}

// maxPast is about as many as may end within a round trip.
const maxPast = 128

func (h *history) add(id uint32, how ending) {
	if len(h.past) < maxPast {
		h.past = append(h.past, ended{id, how})
		return
	}
	h.past[h.next] = ended{id, how}
	h.next = (h.next + 1) % maxPast
}

func (h *history) of(id uint32) ending {
	for _, e := range h.past {
		if e.id == id {
			return e.how
		}
	}
	return notKnown
}

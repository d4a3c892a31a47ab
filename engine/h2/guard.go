package h2

import "time"

// guard holds back clients that make us work without getting anywhere: resets,
// pings, settings, empty frames and so on cost an allowance, which time refills
// and which work that is done and bytes that move earn. Whoever has used it up
// is read from more slowly, which costs an honest client a moment; only who goes
// on like that for long is sent away.
type guard struct {
	left      int64 // not int: the refill of 36 minutes overflows 32 bits
	refilled  time.Time
	held      int // pauses in a row
	onePause  time.Duration
	maxPauses int
}

const (
	allowance       = 10_000 // a browser that leaves a page resets 100 requests at once
	allowanceSecond = 1_000  // refilled

	costFrame   = 1  // anything small that has no effect of its own
	costSetting = 5  // may touch every stream
	costReset   = 10 // a request that was begun for nothing; net/http and others were brought down by these
	costWrong   = 20 // a stream refused for a mistake

	earnedAnswer = 25      // more than a reset, so that one who cancels half of his requests is never held back
	earnedPer    = 512     // bytes of data, each way: window updates and pings come with these
	earnedWrite  = 2       // data, however short: gRPC's clients answer each message with one of both
	smallUpdate  = 1 << 10 // of a window; larger ones are bounded by the largest window
)

func (g *guard) init() {
	g.left = allowance
	g.refilled = time.Now()
	g.onePause = 50 * time.Millisecond // short enough for window updates that wait behind
	g.maxPauses = 600                  // half a minute of nothing but flooding
}

// therePing asks whether the client is still there: only a write tells that it
// is not, long before all that it has sent is read.
var therePing = [8]byte{'t', 'h', 'e', 'r', 'e', '?'}

// pausesToAsk is how often: twice a second.
const pausesToAsk = 10

// spend takes cost from the allowance, and waits if there is none.
func (c *Conn) spend(cost int) error {
	g := &c.in.guard
	if g.left -= int64(cost); g.left > 0 {
		return nil
	}
	now := time.Now()
	c.mu.Lock()
	g.left += c.earned + now.Sub(g.refilled).Milliseconds()*allowanceSecond/1000
	c.earned = 0
	g.refilled = now
	if g.left <= 0 && g.held%pausesToAsk == 0 && !c.closing {
		c.ping(therePing)
	}
	c.kick()
	gone := c.writeErr
	c.mu.Unlock()
	if gone != nil {
		return gone
	}
	if g.left > 0 {
		if g.left = min(g.left, allowance); g.left > allowance/10 {
			g.held = 0
		}
		return nil
	}
	if g.held++; g.held > g.maxPauses {
		return connError{codeEnhanceYourCalm, "flood"}
	}
	time.Sleep(g.onePause)
	return nil
}

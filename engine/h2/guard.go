package h2

import "time"

// guard holds back clients that make us work without getting anywhere. Resets, pings,
// settings, empty frames and the like are paid for from an allowance, which is
// refilled by time, by answers and by the bytes that move. A client that has used it
// up is read from more slowly, which costs an honest one a moment; only one that goes
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
	allowanceSecond = 1_000  // refilled per second

	costFrame   = 1  // anything small that has no effect of its own
	costSetting = 5  // may touch every stream
	costReset   = 10 // a request that was begun for nothing; these have brought down net/http and others
	costWrong   = 20 // a stream refused for a mistake

	earnedAnswer = 25      // more than a reset costs, so that a client that cancels half of its requests is never held back
	earnedPer    = 512     // so many bytes of data, either way, earn 1: window updates and pings come with them
	earnedWrite  = 2       // by a write, however short: gRPC's clients answer each message with a window update and a ping
	smallUpdate  = 1 << 10 // a smaller window update costs; larger ones are bounded by the largest window
)

func (g *guard) init() {
	g.left = allowance
	g.refilled = time.Now()
	g.onePause = 50 * time.Millisecond // short enough for window updates that wait behind
	g.maxPauses = 600                  // half a minute of nothing but flooding
}

// therePing asks whether the client is still there. Only a write can tell that it is
// not, long before everything that it has sent is read.
var therePing = [8]byte{'t', 'h', 'e', 'r', 'e', '?'}

// pausesToAsk is after how many pauses it is sent: twice a second.
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

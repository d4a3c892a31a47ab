package client

import "time"

// A deadline costs a third of a microsecond to set, and a request nearly never
// meets one. So it is set only if none is in force that passes sooner: when one
// that was set for an earlier request passes, it is moved to where it belongs.

// armDeadline makes sure that a read returns when the time for the response
// head is over, or before.
func (x *exchange) armDeadline(now time.Time) {
	end, limited := x.headDeadline(now)
	if !limited {
		return // one in force is found out to be none when it passes
	}
	if d := x.c.deadline; d.After(now) && !d.After(end) {
		return
	}
	x.c.setDeadline(end)
}

// headDeadline is when the wait for the response head ends.
func (x *exchange) headDeadline(now time.Time) (end time.Time, limited bool) {
	o := &x.t.o
	switch {
	case x.expecting:
		return x.start.Add(o.ContinueTimeout), true
	case o.ResponseTimeout <= 0:
		return time.Time{}, false
	case x.body == nil:
		return x.start.Add(o.ResponseTimeout), true
	}
	if ended := x.body.ended.Load(); ended != 0 {
		return x.start.Add(time.Duration(ended) + o.ResponseTimeout), true
	}
	if since := x.body.writing.Load(); since != 0 {
		return x.start.Add(time.Duration(since) + o.ResponseTimeout), true
	}
	return now.Add(o.ResponseTimeout), true // look again
}

// stillTime is called when a deadline passed before the head was here. It
// reports whether the wait goes on.
func (x *exchange) stillTime() bool {
	now := time.Now()
	end, limited := x.headDeadline(now)
	if x.expecting && !end.After(now) {
		x.expecting = false
		if x.sent { // else the body goes with the head
			x.startBody()
		}
		end, limited = x.headDeadline(now)
	}
	if limited && !end.After(now) {
		return false
	}
	x.c.setDeadline(end)
	return true
}

// stillMoves is called when a deadline passed behind the head, and with again if
// one did before in the same read. It reports whether to read on. Behind the
// head nothing limits an answer; but if a piece of the body does not go out
// while nothing comes in either, the upstream has the time it had before.
func (x *exchange) stillMoves(again bool) bool {
	limit := x.t.o.ResponseTimeout
	if limit <= 0 || !x.sending() || x.body.ended.Load() != 0 {
		x.c.setDeadline(time.Time{})
		return true
	}
	now := time.Now()
	end := now.Add(limit) // look again
	if since := x.body.writing.Load(); since != 0 && again {
		if end = x.start.Add(time.Duration(since) + limit); !end.After(now) {
			return false
		}
	}
	x.c.setDeadline(end)
	return true
}

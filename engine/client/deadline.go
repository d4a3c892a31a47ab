package client

import (
	"time"

	"detour/engine/socket"
)

// A deadline takes a third of a microsecond to set, and hardly any request reaches one.
// So it is set only if none that passes sooner is in force. When one that was set for
// an earlier request passes, it is moved to where it belongs.

// armDeadline makes sure that a read returns when the time for the response
// head is over, or before.
func (x *exchange) armDeadline(now time.Time) {
	end, limited := x.nextLook(now)
	if !limited {
		return // if one is in force, stillTime removes it when it passes
	}
	if d := x.c.deadline; d.After(now) && !d.After(end) {
		return
	}
	x.c.setDeadline(end)
}

// armWriteDeadline makes sure that writing a head that the upstream has to take a part
// of first ends when the time for the response head is over.
func (x *exchange) armWriteDeadline() {
	if limit := x.t.o.ResponseTimeout; limit > 0 {
		_ = x.c.nc.SetWriteDeadline(x.start.Add(limit))
	}
}

// disarmWriteDeadline follows armWriteDeadline when the head is written. A deadline that
// has passed stays: nothing may follow a part of a head.
func (x *exchange) disarmWriteDeadline() {
	if limit := x.t.o.ResponseTimeout; limit > 0 && time.Since(x.start) < limit {
		_ = x.c.nc.SetWriteDeadline(time.Time{})
	}
}

// nextLook is headDeadline, or when to look whether the upstream is there at all.
func (x *exchange) nextLook(now time.Time) (look time.Time, limited bool) {
	end, limited := x.headDeadline(now)
	if x.t.o.Patience <= 0 || !x.c.reused {
		return end, limited
	}
	look = x.start.Add(x.t.o.Patience)
	if !look.After(now) {
		look = now.Add(x.t.o.Patience)
	}
	if limited && end.Before(look) {
		look = end
	}
	return look, true
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

// stillTime is called when a deadline has passed before the head was here. An error is
// why the wait is over.
func (x *exchange) stillTime() error {
	now := time.Now()
	end, limited := x.headDeadline(now)
	if x.expecting && !end.After(now) {
		x.expecting = false
		if x.sent { // otherwise the body will go with the head
			x.startBody()
		}
		end, limited = x.headDeadline(now)
	}
	if limited && !end.After(now) {
		return errSlow
	}
	if p := x.t.o.Patience; p > 0 && x.c.reused && now.Sub(x.start) >= p && socket.Silence(x.c.nc) >= p {
		return ErrVanished
	}
	look, _ := x.nextLook(now)
	x.c.setDeadline(look)
	return nil
}

// stillMoves is called when a deadline has passed after the head. again says that it is
// not the first in the same read. It reports whether to read on. After the head nothing
// limits an answer; but if a piece of the request's body does not go out while nothing
// comes in either, the upstream has no more than ResponseTimeout.
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

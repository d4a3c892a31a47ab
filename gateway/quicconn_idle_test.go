package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"detour/engine/accept"
)

// A request that begins as its connection's time comes is served: the timer's
// goroutine may find it there.
func TestVisitLeavesNoRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &quicConn{limit: time.Hour} // without a connection: to close it would be a panic
		v.idle = time.AfterFunc(v.limit, v.leave)
		if !v.EndIdle() {
			t.Fatal("it is not idle; want that it is")
		}
		v.mu.Lock() // time stands still so far
		v.requests++
		v.mu.Unlock()
		synctest.Wait()
		v.requestBegins()
		time.Sleep(2 * v.limit)
	})
}

// One whose request has just ended is not idle, also if it was when it was looked
// at: its answer may be on its way.
func TestVisitLeavesNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &quicConn{limit: time.Hour, since: time.Now()}
		v.idle = time.AfterFunc(v.limit, v.leave)
		defer v.end()
		time.Sleep(accept.Newcomer)
		if v.IdleSince().IsZero() {
			t.Fatal("it is not idle; want that it is")
		}
		v.requestBegins()
		time.Sleep(accept.Newcomer)
		if !v.IdleSince().IsZero() || v.EndIdle() {
			t.Error("it was told to end during a request; want that it is not idle any more")
		}
		v.requestEnds(false)
		if !v.IdleSince().IsZero() || v.EndIdle() {
			t.Error("it was told to end behind a request; want that it is not idle yet")
		}
		v.leave() // from a timer that ran off before the request: to close it would be a panic
	})
}

// A client may take back some requests at once, and more as time passes and as it
// takes answers.
func TestVisitResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &quicConn{limit: 48 * time.Hour, resets: quicResets, counted: time.Now()}
		v.idle = time.AfterFunc(v.limit, v.leave)
		defer v.end()
		count := func(n int, reset bool) (tooMany bool) {
			for range n {
				v.requestBegins()
				tooMany = v.countEnd(reset)
			}
			return tooMany
		}
		for _, step := range []struct {
			name    string
			earn    func()
			allowed int
		}{
			{"at first", func() {}, quicResets},
			{"a second later", func() { time.Sleep(time.Second) }, quicResetsSecond},
			{"after 10 answers", func() { count(10, false) }, 10 * quicEarned},
			{"a day later", func() { time.Sleep(24 * time.Hour) }, quicResets},
		} {
			v.resets = max(v.resets, 0) // what it was sent away for
			step.earn()
			if count(step.allowed, true) || !count(1, true) {
				t.Errorf("%s not just %d requests may be taken back", step.name, step.allowed)
			}
		}
	})
}

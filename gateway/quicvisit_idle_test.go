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
		v := &visit{limit: time.Hour} // without a connection: to close it would be a panic
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
		v := &visit{limit: time.Hour, since: time.Now()}
		v.idle = time.AfterFunc(v.limit, v.leave)
		defer v.end()
		time.Sleep(accept.Newcomer)
		if v.IdleSince().IsZero() {
			t.Fatal("it is not idle; want that it is")
		}
		v.requestBegins()
		v.requestEnds(false)
		if v.EndIdle() {
			t.Error("it was told to end; want that it is not idle any more")
		}
		v.leave() // from a timer that ran off before the request: to close it would be a panic
	})
}

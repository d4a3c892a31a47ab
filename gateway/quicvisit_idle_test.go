package gateway

import (
	"testing"
	"testing/synctest"
	"time"
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

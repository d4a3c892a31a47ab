package client

import (
	"net/http"
	"sync"

	"detour/engine/lifetime"
)

// exchanges are those that were released.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// usualFields is how many fields an answer has at most, nearly always.
const usualFields = 16

// Release lets another request use the memory of res, whose body was read to
// its end, or closed. The caller, and whoever else knew res, has nothing of it
// any more but strings and the values of its fields. It does nothing to an
// answer that is not a Transport's, or that is not over. Nobody has to call it.
func Release(res *http.Response) {
	x, ok := res.Body.(*exchange)
	if !ok || x.buf != nil {
		return
	}
	spare := x.res.Header
	if len(spare) > usualFields {
		spare = nil // a large map stays one, and is slow to clear
	}
	clear(spare)
	*x = exchange{spare: spare}
	if lifetime.Poison {
		// Who still uses it is found by the race detector, or falls over this.
		x.state.Store(bodyClosed)
		return
	}
	exchanges.Put(x)
}

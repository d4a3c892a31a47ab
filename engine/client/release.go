package client

import (
	"net/http"
	"sync"

	"detour/engine/lifetime"
)

// exchanges has those that were released.
var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// usualFields is how many fields an answer has at most, nearly always.
const usualFields = 16

// Release lets another request use the memory of res, whose body must have been read
// to its end or closed. After that neither the caller nor anybody else may use res,
// except for strings and the values of its fields. If res is not a Transport's, or is
// not over, nothing happens. Nobody has to call it.
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
		// Whoever still uses it is found by the race detector, or fails on this.
		x.state.Store(bodyClosed)
		return
	}
	exchanges.Put(x)
}

package server

import (
	"net/http"
	"net/url"
	"sync"

	"detour/engine/lifetime"
)

// exchange is all that one request needs, in one piece of memory that is used again.
type exchange struct {
	request  *http.Request // its context is lifetime
	response response
	lifetime lifetime.Context
	url      url.URL
	header   http.Header // of the request
	answer   http.Header // of the response
	expects  bool        // there is an Expect field

	blank http.Request // request as it was made, to begin from again
}

// idleExchanges are exchanges that may be used again.
var idleExchanges = sync.Pool{New: func() any {
	x := &exchange{
		header: make(http.Header, 14), // a browser's
		answer: make(http.Header, 14), // an upstream's
	}
	x.request = new(http.Request).WithContext(&x.lifetime)
	x.blank = *x.request
	return x
}}

// newExchange returns an empty exchange.
func newExchange() *exchange {
	x := idleExchanges.Get().(*exchange)
	if len(x.header) > 0 || len(x.answer) > 0 { // somebody kept one, and wrote to it
		clear(x.header)
		clear(x.answer)
	}
	return x
}

// recycle makes x available for another request if nobody can still be using a part
// of it: the handler has returned, there was no body that somebody might read or
// close, and nobody waits for the end of the context. Under the race detector x is
// filled with nonsense instead, so that whoever still uses it is found.
func (x *exchange) recycle() {
	if x.response.body != nil || x.request.MultipartForm != nil || !x.lifetime.Release() {
		return
	}
	if lifetime.Poison {
		lifetime.Spoil(x.request, &x.url, x.header, x.answer)
		x.response = response{done: true}
		return
	}
	if len(x.header) > lifetime.LargestHeader || len(x.answer) > lifetime.LargestHeader {
		return
	}
	clear(x.header)
	clear(x.answer)
	*x.request = x.blank
	x.response = response{done: true} // tells whoever still calls it
	x.url, x.expects = url.URL{}, false
	idleExchanges.Put(x)
}

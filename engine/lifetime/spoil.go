package lifetime

import (
	"net/http"
	"net/url"
)

// Spoil makes the parts of a request that is over useless to whoever has kept one;
// see Poison.
func Spoil(r *http.Request, u *url.URL, headers ...http.Header) {
	const nonsense = "this request is over, and was kept by somebody"
	for _, h := range headers {
		clear(h)
		h["Poisoned"] = []string{nonsense}
	}
	*r = http.Request{Method: nonsense, Host: nonsense, RequestURI: nonsense, RemoteAddr: nonsense}
	*u = url.URL{Path: nonsense}
}

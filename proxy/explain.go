package proxy

import (
	"net/http"
	"time"
)

// Explanation says what the Handler would do with a request, and why.
type Explanation struct {
	Host     string        // name of the Route; "" = not served here
	State    string        // "online", "draining" or "offline"
	Cause    string        // why it is not online, as the Route says it
	Reason   string        // as the Route says it
	Until    time.Time     // announced end; zero = unknown
	Kind     string        // of client, as far as an offline host tells them apart: "page", "submit", …
	Why      string        // what decided: "online", "session", "bypass", "offline", or what is wrong
	Action   string        // as the access log would say it
	Status   int           // of the answer; 0 = the upstream's
	Location string        // where it redirects to; "" = it does not
	Wait     string        // Retry-After; "" = none
	Upstream string        // "10.1.1.4:80"; "" = not forwarded
	Hold     time.Duration // how long it would wait for an upstream that takes no connection
}

// Explain says what ServeHTTP, or without tls RedirectToHTTPS, would do with r
// now. Nothing is forwarded, counted or used up. Of r, only the method, URL,
// Host, header, and RemoteAddr are looked at.
func (h *Handler) Explain(r *http.Request, tls bool) Explanation {
	var e Explanation
	_ = tls
	return e
}

package proxy

import (
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"detour/logging"
)

// What answerOffline did with a request, as the access log's "action" says it.
const (
	actionRedirect    = "redirect"    // 302 to the status page
	actionUnavailable = "unavailable" // 503, or gRPC's UNAVAILABLE
	actionPreflight   = "preflight"   // 204 to a CORS preflight, so that the 503 behind it can be read
	actionMaintenance = "maintenance" // 200 to Nextcloud's status probe
)

// defaultRetryAfter is when to try again if the Route does not say.
const defaultRetryAfter = 5 * time.Minute

// answerOffline answers r for a host that is offline, and notes the action in rec.
// People who open a page are redirected to the status page. Programs get what their
// protocol has for "not now": a redirect would give them a page they did not ask for,
// or make them send a form or a password elsewhere.
//
// The body of r is not read, but for the message of a gRPC call. The answer must not be
// cached, as the host may be back at any moment.
func answerOffline(w http.ResponseWriter, r *http.Request, rt *Route, rec *logging.Record) {
	o := offline{w, r, rt, rec}
	kind := kindOf(r)
	if rt.RedirectAll {
		kind = kindPage
	}
	switch kind {
	case kindPage:
		if rt.StatusPage.IsZero() {
			o.page("", "")
		} else {
			o.redirect()
		}
	case kindPreflight:
		o.preflight()
	case kindGRPC:
		o.grpc()
	case kindProbe:
		o.probe()
	case kindWebSocket:
		o.empty()
	case kindPart:
		if wantsJSON(r.Header["Accept"]) {
			o.page("", "")
		} else {
			o.empty()
		}
	case kindDAV:
		// Nextcloud's and ownCloud's apps then say "maintenance mode".
		w.Header()["X-Nextcloud-Maintenance-Mode"] = []string{"1"}
		o.page("", "")
	case kindSubmit:
		o.page("This was not submitted", "The service is offline for the moment, so nothing was sent to it. Wait a little, then reload this page to send it again.")
	case kindBot, kindFetch:
		o.page("", "")
	}
}

// offline is one request to a host that is offline.
type offline struct {
	w   http.ResponseWriter
	r   *http.Request
	rt  *Route
	rec *logging.Record
}

// host is the name that was asked for: one of several, or below a wildcard.
func (o offline) host() string {
	if name, err := CanonicalHost(o.r.Host); err == nil {
		return name
	}
	return o.rt.Host
}

// redirect sends the visitor to the status page. It is always a 302: a 301 would be
// remembered, a 307 or 308 would send the form there. There is no Retry-After, as a
// browser might wait for that time before it follows. http.Redirect would add a body
// and clean the path.
func (o offline) redirect() {
	o.rec.Action = actionRedirect
	h := o.w.Header()
	values := []string{o.rt.StatusPage.Location(o.r, o.host()), "no-store"} // one allocation
	h["Location"] = values[0:1:1]
	h["Cache-Control"] = values[1:2:2]
	o.w.WriteHeader(http.StatusFound)
}

// unavailable sets what every 503 carries.
func (o offline) unavailable() {
	o.rec.Action = actionUnavailable
	h := o.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Retry-After", o.rt.retryAfter(time.Now()))
	h.Set("X-Robots-Tag", "noindex")
	if !o.rt.StatusPage.IsZero() {
		h.Set("Link", "<"+o.rt.StatusPage.Link(o.host())+`>; rel="status"`) // RFC 8631
	}
	o.allowOrigin("Link, Retry-After")
}

// allowOrigin lets a script of another origin read the answer and the named
// header fields; there is nothing secret in it.
func (o offline) allowOrigin(expose string) {
	origin := o.r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h := o.w.Header()
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Credentials", "true")
	h.Set("Access-Control-Expose-Headers", expose)
	addVary(h, "Origin")
}

// empty is a 503 for clients that look only at the status.
func (o offline) empty() {
	o.unavailable()
	o.w.Header().Set("Content-Length", "0")
	o.w.WriteHeader(http.StatusServiceUnavailable)
}

// page is a 503 with these words; "" = the usual ones.
func (o offline) page(title, text string) {
	o.unavailable()
	writePage(o.w, o.r, page{
		Status:     http.StatusServiceUnavailable,
		Title:      title,
		Text:       text,
		Reason:     o.rt.Reason,
		StatusPage: o.rt.StatusPage.Link(o.host()),
	})
}

// preflight allows what is asked for, so that the request that follows is made and its
// 503 can be read. The permission must not be cached.
func (o offline) preflight() {
	o.rec.Action = actionPreflight
	h := o.w.Header()
	h.Set("Cache-Control", "no-store")
	asked := o.r.Header
	h.Set("Access-Control-Allow-Methods", asked.Get("Access-Control-Request-Method"))
	if fields := asked["Access-Control-Request-Headers"]; fields != nil {
		h["Access-Control-Allow-Headers"] = slices.Clone(fields)
	}
	h.Set("Access-Control-Max-Age", "0")
	if origin := asked.Get("Origin"); origin != "" {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	o.w.WriteHeader(http.StatusNoContent)
}

// grpc is gRPC's own UNAVAILABLE, on which clients retry with a back-off: an
// answer of trailers only, so they stand in the header block.
func (o offline) grpc() {
	o.awaitCall()
	o.rec.Action = actionUnavailable
	h := o.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", o.r.Header.Get("Content-Type"))
	h.Set("Grpc-Status", grpcUnavailable)
	h.Set("Grpc-Message", "the service is offline for the moment")
	o.allowOrigin("Grpc-Status, Grpc-Message") // gRPC-Web
	o.w.WriteHeader(http.StatusOK)
}

// callPatience is how long an answer waits for the message of its call, which comes
// right behind the header, unless the call is a stream that the server begins.
const callPatience = 250 * time.Millisecond

// awaitCall reads the message of a call over HTTP/2. curl (7.88) loses an answer that
// has no body and comes before all of its request is sent.
func (o offline) awaitCall() {
	if o.r.ProtoMajor == 2 && http.NewResponseController(o.w).SetReadDeadline(time.Now().Add(callPatience)) == nil {
		_, _ = io.CopyN(io.Discard, o.r.Body, 64<<10) // more is not waited for
	}
}

// nextcloudMaintenance is what a Nextcloud in maintenance mode answers to
// /status.php. The version is left empty: a low one would make apps refuse
// the account, a high one offer what the server may not have.
const nextcloudMaintenance = `{"installed":true,"maintenance":true,"needsDbUpgrade":false,"version":"","versionstring":"","edition":"","productname":"Nextcloud","extendedSupport":false}`

func (o offline) probe() {
	o.rec.Action = actionMaintenance
	h := o.w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(nextcloudMaintenance)))
	h.Set("Access-Control-Allow-Origin", "*")
	o.w.WriteHeader(http.StatusOK)
	if o.r.Method != http.MethodHead {
		io.WriteString(o.w, nextcloudMaintenance) // a client that went away misses nothing
	}
}

// retryAfter is when to try again: at the announced end, or after the usual time if that
// is unknown or over.
func (rt *Route) retryAfter(now time.Time) string {
	if left := rt.Until.Sub(now); left > 0 {
		return retryAfter(left)
	}
	return retryAfter(rt.RetryAfter)
}

// retryAfter is d in whole seconds, rounded up: a client that came early would come in
// vain.
func retryAfter(d time.Duration) string {
	if d <= 0 {
		d = defaultRetryAfter
	}
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

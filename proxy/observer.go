package proxy

import (
	"fmt"
	"net/http"
)

// Observer hears how the upstreams of a host fare with the requests of
// visitors: err is why u gave no answer (refused, timed out, reset before a
// byte of it), a *StatusError if the Route asks for those, or nil for the first
// success after an error. Other successes are not told, so that they cost
// nothing; it is not told of failures that are the client's, or ours, such as
// want of descriptors. Of a request that waited for its upstream it hears how
// the last try went.
//
// It is called from requests' goroutines, so it must be quick.
type Observer func(host string, u *Upstream, err error)

// StatusError is an answer that says that the upstream is not well.
type StatusError struct{ Status int } // 502, 503 or 504

func (e *StatusError) Error() string {
	return fmt.Sprintf("upstream answered %d %s", e.Status, http.StatusText(e.Status))
}

// tellObserver says how the members fared; res is nil when none answered.
func (f *forwarding) tellObserver(res *http.Response) {
	if f.handler.observe == nil {
		return
	}
	if len(f.tried) > 0 && f.blamesUpstream() {
		for _, a := range f.tried {
			if Shortage(a.err) {
				continue
			}
			a.member.failing.Store(true)
			f.handler.observe(f.rt.Host, a.member.Upstream, a.err)
		}
	}
	switch {
	case res == nil:
	case f.rt.PassiveStatus && res.StatusCode >= http.StatusBadGateway && res.StatusCode <= http.StatusGatewayTimeout:
		f.member.failing.Store(true)
		f.handler.observe(f.rt.Host, f.member.Upstream, &StatusError{res.StatusCode})
	case f.member.failing.Load() && f.member.failing.CompareAndSwap(true, false):
		f.handler.observe(f.rt.Host, f.member.Upstream, nil)
	}
}

// blamesUpstream reports whether the attempts failed because of the upstreams.
func (f *forwarding) blamesUpstream() bool {
	last := f.tried[len(f.tried)-1].err
	err := f.blame(last)
	return err == last && cancelledCall(f.r, err) == ""
}

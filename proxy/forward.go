package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"detour/logging"
)

// forwarding is one request on its way to the upstream and back.
type forwarding struct {
	w    http.ResponseWriter // the compressor when there is one
	rc   *http.ResponseController
	r    *http.Request
	rt   *Route
	rec  *logging.Record
	body *requestBody // nil = none

	trace  httptrace.ClientTrace
	reused atomic.Bool // the connection had served another request before
	began  atomic.Bool // a byte of the answer arrived

	interim  sync.Mutex // held while a 1xx is passed on
	answered bool       // guarded by interim: the final answer is there, no more 1xx
}

// forward sends r to the route's upstream and its answer to the client.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, rt *Route, rec *logging.Record, from origin) {
	rec.Action = "proxy"
	rec.Upstream = rt.Upstream.name
	f := &forwarding{w: w, rc: http.NewResponseController(w), r: r, rt: rt, rec: rec}

	protocol, err := upgradeProtocol(r)
	if err != nil {
		fail(w, r, rt, rec, err)
		return
	}
	header := h.requestHeader(r, rt, from, rec.ClientIP, rec.RequestID)
	if protocol != "" {
		h.upgrade(f, protocol, header)
		return
	}
	if rt.Compress {
		stripETagSuffix(header)
	}
	out, err := f.request(header)
	if err != nil {
		fail(w, r, rt, rec, err)
		return
	}
	if f.body != nil {
		defer f.body.release(f.rc)
	}
	res, err := f.roundTrip(rt.Upstream.transport, out)
	if err != nil {
		fail(w, r, rt, rec, err)
		return
	}
	f.answer(res)
}

// request makes the request to the upstream.
func (f *forwarding) request(header http.Header) (*http.Request, error) {
	r, u := f.r, f.rt.Upstream
	body, length, err := newRequestBody(r, f.rt.MaxBody)
	if err != nil {
		return nil, err
	}
	f.trace.GotConn = func(info httptrace.GotConnInfo) { f.reused.Store(info.Reused) }
	f.trace.GotFirstResponseByte = func() { f.began.Store(true) }
	f.trace.Got1xxResponse = f.passInterim
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), &f.trace))
	out.URL = target(r, u)
	out.Host = r.Host
	if u.host != "" {
		out.Host = u.host
	}
	out.Header = header
	out.RequestURI = "" // a client's request has none
	out.TransferEncoding = nil
	// After a refusal of "Expect: 100-continue" http.Transport would send the
	// body all the same, and so fetch it from the client, to keep the
	// connection. Given up, the connection costs less than the body.
	out.Close = header["Expect"] != nil
	out.Body, out.ContentLength, out.Trailer = nil, 0, nil
	if body != nil {
		f.body = body
		out.Body, out.ContentLength = body, length
		if r.ProtoMajor == 1 {
			// Without it net/http's server eats the rest of the body when the
			// answer begins. Servers that are always full duplex say they
			// cannot switch it on.
			_ = f.rc.EnableFullDuplex()
		}
		if length < 0 {
			// The server fills this map when it has read the body; made here,
			// trailers that were not announced have a place to go to.
			if r.Trailer == nil {
				r.Trailer = make(http.Header)
			}
			out.Trailer = r.Trailer
		}
	}
	return out, nil
}

// target is the URL that makes http.Transport send r's path and query byte for
// byte. URL.Opaque is sent as it is, except that two slashes at its beginning
// would be taken for an authority: such a path goes by RawPath, which is sent
// as it is unless it has bytes that no URL may have.
func target(r *http.Request, u *Upstream) *url.URL {
	t := &url.URL{Scheme: u.scheme, Host: u.address}
	path, query, hasQuery := strings.Cut(rawTarget(r), "?")
	t.RawQuery, t.ForceQuery = query, hasQuery
	if strings.HasPrefix(path, "//") {
		t.Path, t.RawPath = r.URL.Path, path
	} else {
		t.Opaque = path
	}
	return t
}

// rawTarget is r's target in origin-form, or "*" (RFC 9112, 3.2).
func rawTarget(r *http.Request) string {
	uri := r.RequestURI
	if strings.HasPrefix(uri, "/") || uri == "*" {
		return uri
	}
	// absolute-form: what follows the authority
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return r.URL.RequestURI()
	}
	i := strings.IndexAny(rest, "/?")
	switch {
	case i < 0 && r.Method == http.MethodOptions:
		return "*" // RFC 9112, 3.2.4
	case i < 0:
		return "/"
	case rest[i] == '?':
		return "/" + rest[i:]
	}
	return rest[i:]
}

// roundTrip sends out and waits for the header of the answer. An error is why
// there is none, and whose fault it is.
func (f *forwarding) roundTrip(rt http.RoundTripper, out *http.Request) (*http.Response, error) {
	res, err := rt.RoundTrip(out)
	if err != nil && f.repeatable(out, err) {
		res, err = rt.RoundTrip(out)
	}
	f.interim.Lock()
	f.answered = true
	f.interim.Unlock()
	if err != nil {
		return nil, f.blame(err)
	}
	return res, nil
}

// repeatable reports whether out may be sent once more: a kept-alive
// connection died before a byte of the answer came, there is no body, and the
// method is idempotent. http.Transport itself repeats GET, HEAD, OPTIONS and
// TRACE by the same rule, and any method when nothing of it was sent.
func (f *forwarding) repeatable(out *http.Request, err error) bool {
	switch out.Method {
	case http.MethodPut, http.MethodDelete, "PROPFIND", "REPORT", "SEARCH":
	default:
		return false
	}
	return out.Body == nil && f.reused.Load() && !f.began.Load() &&
		f.r.Context().Err() == nil && failureStatus(err) == http.StatusBadGateway
}

// blame says whose failure err is when an exchange with the upstream ended early.
func (f *forwarding) blame(err error) error {
	if f.body != nil {
		if cause := f.body.failure(); cause != nil {
			return clientError(f.r, cause)
		}
	}
	if f.r.Context().Err() != nil {
		return errClientGone
	}
	return err
}

// clientError names what went wrong while reading r's body.
func clientError(r *http.Request, err error) error {
	switch {
	case err == errBodyTooLarge:
		return err
	case r.Context().Err() != nil:
		return errClientGone
	}
	return fmt.Errorf("%w: %w", errClientBody, err)
}

// passInterim passes a 1xx on. A RoundTripper may call it from a goroutine of
// its own until it returned. 100 is the server's: it sends one when the
// upstream's made the RoundTripper read the body. HTTP/1.0 knows no 1xx.
func (f *forwarding) passInterim(code int, header textproto.MIMEHeader) error {
	f.interim.Lock()
	defer f.interim.Unlock()
	if f.answered || code == http.StatusContinue || !f.r.ProtoAtLeast(1, 1) {
		return nil
	}
	h := f.w.Header()
	var added []string
	for name, values := range header {
		if h[name] == nil && !hopByHop(name) {
			h[name] = values
			added = append(added, name)
		}
	}
	f.w.WriteHeader(code)
	for _, name := range added {
		delete(h, name)
	}
	return nil
}

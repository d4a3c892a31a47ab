package proxy

import (
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http2"

	"detour/engine/wire"
	"detour/logging"
)

// What forward did with a request, as the access log's "action" says it.
const (
	actionProxy  = "proxy"
	actionHold   = "hold"   // it waited for the upstream to take connections
	actionBypass = "bypass" // although the host is not online
)

// forward sends r to the route's upstream, and the answer to the client. why is the
// course that decide chose: courseOnline, courseSession or courseBypass.
func (h *Handler) forward(w http.ResponseWriter, r *http.Request, rt *Route, rec *logging.Record, from origin, why course) {
	rec.Action = actionProxy
	f := newForwarding()
	f.handler, f.w, f.r, f.rt, f.rec = h, w, r, rt, rec
	f.server = *http.NewResponseController(w)
	f.rc = &f.server
	f.begin()
	defer f.end()
	switch why {
	case courseSession:
		rt.Stats.sessionSeen()
	case courseBypass:
		rec.Action = actionBypass
		f.bypass = true
		w.Header()["X-Detour"] = []string{actionBypass}
	}
	if !rt.Stats.exchanges.add(f) {
		f.failUnsent(errCut)
		return
	}
	f.use(rt.Pool.pick(nil))

	protocol, err := upgradeProtocol(r)
	if err != nil {
		f.fail(err)
		return
	}
	h.requestHeader(f.header, f.values[:0], r, rt, from, rec.ClientIP, rec.RequestID)
	if protocol != "" {
		f.upgrade(protocol)
		return
	}
	if rt.Compress {
		stripETagSuffix(f.header)
	}
	out, err := f.request()
	if err != nil {
		f.fail(err)
		return
	}
	res, err := f.roundTrip(out)
	if err != nil {
		f.failHeld(err)
		return
	}
	f.answer(res)
}

// fail answers f, of which nothing has been answered yet.
func (f *forwarding) fail(err error) { fail(f.w, f.r, f.rt, f.rec, err) }

// failHeld is fail for a request that may have waited.
func (f *forwarding) failHeld(err error) {
	if f.rt.Hold > 0 && !f.bypass && f.unsent() {
		f.failUnsent(err)
	} else {
		f.fail(err)
	}
}

// failUnsent is fail for a request of which nothing was sent: if its host has gone
// offline meanwhile, it gets the answer of an offline host.
func (f *forwarding) failUnsent(err error) {
	if rt := f.handler.table.Load().Lookup(f.rt.Host); rt != nil && !rt.Online {
		answerOffline(f.w, f.r, rt, f.rec)
	} else {
		f.fail(err)
	}
}

// request makes the request to the upstream.
func (f *forwarding) request() (*http.Request, error) {
	r, out, header := f.r, f.out, f.header
	body, length, err := newRequestBody(r, f.rt.MaxBody)
	if err != nil {
		return nil, err
	}
	out.Method, out.Header = r.Method, header
	if !r.ProtoAtLeast(1, 1) {
		delete(header, "Expect") // RFC 9110, 10.1.1: it sends its body at once, and knows no 100
	}
	// When "Expect: 100-continue" is refused, http.Transport would send the body all
	// the same to keep the connection, and so fetch it from the client. To give up
	// the connection costs less than the body.
	out.Close = header["Expect"] != nil || authenticatesConnection(header["Authorization"])
	if body != nil {
		f.body = body
		out.Body, out.ContentLength = body, length
		if r.ProtoMajor == 1 {
			// Without it net/http's server discards the rest of the body when
			// the answer begins. Servers that are always full duplex return an
			// error.
			_ = f.rc.EnableFullDuplex()
		}
		if length < 0 {
			// The server fills this map when it has read the body. It is made
			// here so that there is a place for trailers that were not announced.
			if r.Trailer == nil {
				r.Trailer = make(http.Header)
			}
			dropForged(r.Trailer) // of those that are announced
			out.Trailer, body.trailer = r.Trailer, r.Trailer
		}
	}
	return out, nil
}

// authenticatesConnection reports whether these credentials are for all that
// follows on the connection, as Microsoft's schemes are (RFC 4559, 6): no other
// visitor's request may be next on it.
func authenticatesConnection(authorization []string) bool {
	for _, v := range authorization {
		scheme, _, _ := strings.Cut(v, " ")
		if strings.EqualFold(scheme, "NTLM") || strings.EqualFold(scheme, "Negotiate") {
			return true
		}
	}
	return false
}

// aim addresses out to f.member.
func (f *forwarding) aim(out *http.Request) {
	setTarget(&f.url, f.r, f.member.Upstream)
	out.Host = hostField(f.r.Host)
	if f.member.host != "" {
		out.Host = f.member.host
	}
	if f.body != nil && !f.member.brief {
		// engine/client repeats nothing that has a body. http.Transport repeats what
		// was not taken: a stream above the number in GOAWAY, or one that was refused.
		f.body.keep()
		out.GetBody = f.body.again
	}
}

// setTarget sets t so that a RoundTripper sends r's path and query byte for byte.
// URL.Opaque is sent as it is, except that two slashes at its beginning would be taken
// for an authority. A path that begins with them goes by RawPath, which is sent as it is
// unless it has bytes that no URL may have.
func setTarget(t *url.URL, r *http.Request, u *Upstream) {
	path, query, hasQuery := strings.Cut(rawTarget(r), "?")
	*t = url.URL{Scheme: u.scheme, Host: u.address, RawQuery: query, ForceQuery: hasQuery}
	if strings.HasPrefix(path, "//") {
		t.Path, t.RawPath = r.URL.Path, path
	} else {
		t.Opaque = path
	}
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

// roundTrip sends out and waits for the header of the answer. The error says why there is
// none, and whose fault that is.
func (f *forwarding) roundTrip(out *http.Request) (*http.Response, error) {
	var res *http.Response
	var err error
	if f.rt.Hold > 0 {
		res, err = f.hold(out)
	} else {
		res, err = f.try(out)
	}
	f.interim.Lock()
	f.answered = true
	f.interim.Unlock()
	if f.body != nil {
		f.body.answers()
	}
	f.tellObserver(res)
	if err != nil {
		return nil, f.blame(err)
	}
	f.res.Store(res)
	if f.stuck.Load() {
		res.Body.Close() // whoever found that did not see res yet
	}
	return res, nil
}

// try sends out to a member, and as long as that takes no connection to another one,
// until all were tried.
func (f *forwarding) try(out *http.Request) (*http.Response, error) {
	f.tried = f.tried[:0]
	for {
		f.aim(out)
		f.limitBody()
		rt := f.member.carrier(out, f.upgrading)
		f.connecting.Store(false) // the RoundTripper may fail without trying to connect
		f.attempts = 0
		f.single = rt == f.member.http1
		f.lasting = f.lasting || !f.member.brief
		res, err := rt.RoundTrip(out)
		for err != nil && f.stale && f.unsent() {
			res, err = rt.RoundTrip(out)
		}
		switch {
		case err == nil:
		case f.needsHTTP1(err):
			rt = f.member.http1 // which says nothing about transport
			res, err = rt.RoundTrip(out)
		case f.repeatable(out, err):
			res, err = rt.RoundTrip(out)
		}
		if err == nil {
			if f.member.http1 != nil && rt == f.member.transport {
				f.member.speaks1.Store(res.ProtoMajor == 1)
			}
			return res, nil
		}
		if cause := unsendable(out); cause != nil {
			err = cause
		}
		f.tried = append(f.tried, attempt{f.member, err})
		if !f.unsent() {
			return nil, err
		}
		if !Shortage(err) {
			f.member.refused()
		}
		next := f.rt.Pool.pick(f.tried)
		if next == nil {
			return nil, err
		}
		f.use(next)
	}
}

// carrier is the RoundTripper that sends out to u.
func (u *Upstream) carrier(out *http.Request, upgrading bool) http.RoundTripper {
	switch {
	case upgrading:
		return u.upgrades
	case u.http1 != nil && u.speaks1.Load() && !idempotent(out):
		return u.http1
	case u.uploads != nil && out.Body != nil && (out.ContentLength < 0 || out.ContentLength > formAtMost):
		return u.uploads
	}
	return u.transport
}

// limitBody limits how long the member may take nothing of the body that it is sent: an
// HTTP/1 client that leaves meanwhile would not be noticed. gRPC calls may pause, and have
// a keep-alive of their own.
func (f *forwarding) limitBody() {
	limit := f.member.limit
	if f.body == nil || limit == 0 && len(f.tried) == 0 {
		return
	}
	if f.upgrading || isGRPC(f.r.Header) {
		limit = 0
	}
	f.body.limitPieces(limit, func() {
		f.stuck.Store(true)
		f.cancel()
		if res := f.res.Load(); res != nil {
			res.Body.Close() // after the head of the answer, HTTP/2's upload does not look at the context
		}
	})
}

// unsent reports whether the last attempt failed because there was no connection
// (refused, no route, no name, no TLS), so that nothing of the request was sent, and puts
// its body back to the beginning. If the request is over it is false, as nothing is to be
// sent any more.
func (f *forwarding) unsent() bool {
	return f.connecting.Load() && f.Err() == nil && (f.body == nil || f.body.reopen())
}

// unsendable is why no RoundTripper sends out; nil = that is not the reason. engine/client
// returns the same errors itself; http.Transport applies the same rules before it asks
// for a connection, but its errors have no type. It is called only after a failure.
func unsendable(out *http.Request) error {
	if _, err := wire.AppendMethod(nil, out.Method); err != nil {
		return err
	}
	var line []byte
	for name, values := range out.Header {
		for _, v := range values {
			var err error
			if line, err = wire.AppendField(line[:0], name, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// repeatable reports whether out may be sent once more: a kept-alive
// connection died before a byte of the answer came, there is no body, and the
// method is idempotent. http.Transport itself repeats GET, HEAD, OPTIONS and
// TRACE by the same rule, and any method when nothing of it was sent.
func (f *forwarding) repeatable(out *http.Request, err error) bool {
	return idempotent(out) && !f.connecting.Load() && f.reused.Load() && !f.began.Load() &&
		f.Err() == nil && failureStatus(f.blame(err)) == http.StatusBadGateway
}

// needsHTTP1 reports whether the member refused a request of HTTP/2 that it would
// take over HTTP/1.1, as IIS does where Windows logs in, and puts its body back to
// the beginning.
func (f *forwarding) needsHTTP1(err error) bool {
	reset, ok := errors.AsType[http2.StreamError](err)
	return ok && reset.Code == http2.ErrCodeHTTP11Required && f.member.http1 != nil &&
		(f.body == nil || f.body.reopen())
}

// idempotent reports whether out has the same effect if it is sent twice, and no body
// that would have to be kept for that.
func idempotent(out *http.Request) bool {
	switch out.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, "PROPFIND", "REPORT", "SEARCH":
		return out.Body == nil
	}
	return false
}

// maxInterims bounds the 1xx of one answer: it is far above what an upload gets that is
// told its progress every second. Neither http.Transport nor engine/client bounds the
// 1xx if there is a hook for them.
const maxInterims = 10_000

var errInterims = errors.New("upstream sent thousands of 1xx and no answer")

// passInterim passes a 1xx on. A RoundTripper may call it from a goroutine of its own
// until RoundTrip has returned. A 100 is left to the server, which sends one when that of
// the upstream makes the RoundTripper read the body; but quic-go's server sends none.
// HTTP/1.0 knows no 1xx.
func (f *forwarding) passInterim(code int, header textproto.MIMEHeader) error {
	f.interim.Lock()
	defer f.interim.Unlock()
	if f.interims++; f.interims > maxInterims {
		return errInterims
	}
	expected := f.r.ProtoMajor == 3 && f.r.Header["Expect"] != nil
	if f.answered || code == http.StatusContinue && !expected || !f.r.ProtoAtLeast(1, 1) {
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

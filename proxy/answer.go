package proxy

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"detour/logging"
)

// answer passes the upstream's answer to the client. If one side breaks off after
// something was sent it panics with http.ErrAbortHandler, so that the client, on any
// protocol, sees a broken answer and never a clean end of half an answer.
func (f *forwarding) answer(res *http.Response) {
	defer res.Body.Close()
	if res.StatusCode < 200 { // an impossible status, or a 101 that nobody asked for
		f.fail(fmt.Errorf("upstream answered with status %q", res.Status))
		return
	}
	header := f.w.Header()
	responseHeader(header, res, f.rt)
	if res.StatusCode == http.StatusNoContent {
		delete(header, "Content-Length") // RFC 9110, 8.6; on HTTP/2 it would break the stream
	}
	if f.r.ProtoMajor == 1 && f.body != nil && !f.body.complete() {
		header["Connection"] = []string{"close"} // the rest of the body is not waited for
	}
	if upgrade := res.Header["Upgrade"]; res.StatusCode == http.StatusUpgradeRequired && upgrade != nil && f.r.Proto == "HTTP/1.1" {
		header["Connection"] = append(header["Connection"], "Upgrade")
		header["Upgrade"] = upgrade // RFC 9110, 15.5.22: what the client is to speak
	}
	if f.rt.Compress && (res.StatusCode == http.StatusNotModified || compressible(header)) {
		f.compressor.begin(f.w, f.r, &f.handler.encoders)
		defer f.compressor.release()
		f.w = &f.compressor
		f.compressed = *http.NewResponseController(f.w)
		f.rc = &f.compressed
	}
	bodiless := bodiless(f.r, res)
	if !bodiless {
		for name := range res.Trailer { // announced
			header.Add("Trailer", name)
		}
	}
	events := isEventStream(res)
	if events {
		f.rt.Stats.Streams.Add(1)
		defer f.rt.Stats.Streams.Add(-1)
		if f.r.Method == http.MethodGet {
			f.listens()
		}
	}
	f.w.WriteHeader(res.StatusCode)
	if bodiless {
		f.close()
		f.whole = true
		return
	}
	if err := f.copyBody(res, events); err != nil {
		code := cancelledCall(f.r, err)
		if code == "" || f.r.Context().Err() != nil {
			f.breakOff(err)
			return
		}
		// This ends a call whose time is over; a reset would say that we failed.
		f.rec.Err = err
		res.Trailer = http.Header{"Grpc-Status": {code}}
	}
	copyTrailer(header, res.Trailer)
	f.close()
	f.whole = true
}

// listens notes that f is a stream of events that lasts until one side ends it.
// Those who listen come back then, as EventSource does. The answer to another
// method is that to one question, such as a language model's, and has an end that
// must not be made up.
func (f *forwarding) listens() {
	f.events.Store(true)
	if f.handler.tunnels.stopped() { // Drain has looked for them before
		f.endEvents()
	}
}

// bodiless reports whether res cannot have a body (RFC 9110, 6.4.1).
func bodiless(r *http.Request, res *http.Response) bool {
	return r.Method == http.MethodHead || res.StatusCode == http.StatusNoContent || res.StatusCode == http.StatusNotModified
}

// atOnce reports whether the header and each piece of res must leave as they arrive:
// for streams of events, for bodies that may be produced while they are sent, and for
// HTTP/2 on both sides, which gRPC needs. A body of known length may fill packets.
func atOnce(r *http.Request, res *http.Response, events bool) bool {
	return events || res.ContentLength < 0 || len(res.Trailer) > 0 ||
		r.ProtoMajor >= 2 && res.ProtoMajor >= 2
}

func isEventStream(res *http.Response) bool {
	return strings.HasPrefix(first(res.Header["Content-Type"]), "text/event-stream")
}

// first is http.Header's Get, of the values of a canonical name.
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// copyBody copies the body of res to the client. The error is the client's
// when it is errClientGone, else the upstream's.
func (f *forwarding) copyBody(res *http.Response, events bool) error {
	if res.ContentLength == 0 {
		// No flush: gRPC's answers of trailers only must leave as they came, in a
		// header block that ends the stream. Proper trailers may still follow.
		_, err := io.Copy(io.Discard, res.Body)
		return err
	}
	flush := atOnce(f.r, res, events)
	if flush && f.rc.Flush() != nil {
		return errClientGone
	}
	buf := copyBuffer{memory: f.handler.memory}
	defer buf.release()
	for {
		p := buf.next(events)
		n, err := res.Body.Read(p)
		buf.got(n)
		if n > 0 {
			if f.body != nil {
				f.body.moves.Store(true)
			}
			if _, err := f.w.Write(p[:n]); err != nil {
				return errClientGone
			}
			if flush && f.rc.Flush() != nil {
				return errClientGone
			}
		}
		if err == io.EOF || err != nil && f.ended.Load() {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// copyTrailer sets the trailers that followed the upstream's body. Announced ones keep
// their name, the others get net/http's prefix. The header has been sent, so a field of
// it with the name of an announced trailer is removed: it would be sent again, as the
// trailer.
func copyTrailer(header, trailer http.Header) {
	announced := header["Trailer"]
	for _, name := range announced {
		delete(header, name)
	}
	for name, values := range trailer {
		switch {
		case hopByHop(name) || len(values) == 0:
		case hasToken(announced, name):
			header[name] = values
		default:
			header[http.TrailerPrefix+name] = values
		}
	}
}

// close ends a compressed stream.
func (f *forwarding) close() {
	if c, ok := f.w.(*compressWriter); ok && c.Close() != nil {
		f.abort(errClientGone)
	}
}

// breakOff ends an answer whose body broke off. If all of it is still held back for
// compression, so that nothing was sent, the client gets an error page instead.
func (f *forwarding) breakOff(err error) {
	if f.w != &f.compressor || !f.compressor.unsent() {
		f.abort(err)
	}
	f.w = f.compressor.ResponseWriter
	header := f.w.Header()
	for name := range header {
		if name != "Alt-Svc" && name != "X-Detour" { // which are never the upstream's
			delete(header, name)
		}
	}
	f.rt.editHeader(header)
	f.fail(f.blame(err))
}

// abort breaks an answer off whose header has been sent.
func (f *forwarding) abort(err error) {
	f.rec.Err = f.blame(err)
	switch {
	case errors.Is(f.rec.Err, errClientGone), errors.Is(f.rec.Err, errClientBody), errors.Is(f.rec.Err, errMalformed):
		f.rec.Status = logging.StatusClientGone
	case errors.Is(f.rec.Err, errBodyTooLarge), f.brokenOff() != nil:
	default:
		f.rt.Stats.failed(f.rec.Err)
	}
	panic(http.ErrAbortHandler)
}

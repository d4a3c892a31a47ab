package client

import (
	"net/http"
	"net/textproto"
	"strings"

	"detour/engine/wire"
)

// answer makes res from the final head h, parsed from block. Without a body the
// exchange is over then.
func (x *exchange) answer(h wire.Response, block []byte) error {
	if h.Status == http.StatusSwitchingProtocols {
		return x.switchProtocols(h, block)
	}
	switch {
	case !x.expecting:
	case h.Status < 300 && h.Length == wire.LengthChunked && (!h.Close || x.req.Close):
		// A server that begins a stream, and neither refuses nor closes, may want
		// the body for the rest of it (RFC 9110, 10.1.1).
		x.startBody()
	default: // the body is not wanted
		x.expecting = false
		closeBody(x.req)
	}
	x.fillResponse(h, block)
	x.reuse = !h.Close && !x.req.Close && h.KeepAlive != 0
	if h.KeepAlive > 0 {
		x.c.keepFor(h.KeepAlive)
	}
	bodiless := x.req.Method == http.MethodHead || !wire.BodyAllowed(h.Status)
	switch {
	case bodiless:
		if h.Status == http.StatusNoContent && (h.Length > 0 || h.Length == wire.LengthChunked) {
			x.reuse = false // the upstream may be sending the body that it declares, though there can be none
		}
		fallthrough
	case h.Length == 0:
		x.res.Body = http.NoBody
		x.state.Store(bodyEnded)
		x.finish(true)
		return nil
	case h.Length == wire.LengthChunked:
		x.framing = framedByChunks
	case h.Length == wire.LengthNone:
		x.framing = framedByClose
		x.reuse = false
	default:
		x.framing, x.left = framedByLength, h.Length
	}
	x.res.Body = x
	return nil
}

// fillResponse fills res as http.ReadResponse does, except for the body, for the
// Cache-Control that that makes of a Pragma, and for a Connection field that names
// more than close, which that removes.
func (x *exchange) fillResponse(h wire.Response, block []byte) {
	r := &x.res
	text := string(block)
	r.Status = within(text, block, h.StatusText)
	r.StatusCode = h.Status
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, h.Minor
	if h.Minor == 0 {
		r.Proto = "HTTP/1.0"
	}
	r.Header = makeHeader(x.spare, text, block, x.buf.fields)
	r.Request = x.req
	r.Close = h.Close
	switch {
	case h.Length == wire.LengthNone:
		r.ContentLength = -1
	case h.Length != wire.LengthChunked:
		r.ContentLength = h.Length
	default:
		r.ContentLength = -1
		x.chunked.Padded = true
		x.coding[0] = "chunked"
		r.TransferEncoding = x.coding[:]
	}
	if x.req.Method != http.MethodHead {
		switch {
		case !wire.BodyAllowed(h.Status):
			r.ContentLength = 0
		case h.Length == wire.LengthNone:
			r.Close = true
		}
	}
	if h.Close && h.Minor == 1 {
		if options := r.Header["Connection"]; len(options) == 1 && strings.EqualFold(options[0], "close") {
			delete(r.Header, "Connection")
		}
	}
	if h.Trailer && h.Length == wire.LengthChunked {
		r.Trailer = wire.AnnouncedTrailer(r.Header["Trailer"])
		delete(r.Header, "Trailer")
	}
}

// makeHeader puts fields, which are parts of block, into header, which is empty, or, if
// that is nil, into a new one. text is block as a string.
func makeHeader(header http.Header, text string, block []byte, fields []wire.Field) http.Header {
	if header == nil {
		header = make(http.Header, len(fields))
	}
	// One allocation for all, which outlives the exchange (Release).
	values := make([]string, len(fields))
	sent := 0 // fields in header, if all names differ, as they nearly always do
	for i, f := range fields {
		name := canonicalName(within(text, block, f.Name))
		if name == "Transfer-Encoding" {
			continue
		}
		sent++
		values[i] = within(text, block, f.Value)
		header[name] = values[i : i+1 : i+1]
	}
	if len(header) == sent {
		return header
	}
	clear(header)
	for i, f := range fields {
		name := canonicalName(within(text, block, f.Name))
		if before := header[name]; before != nil {
			header[name] = append(before, values[i])
		} else if name != "Transfer-Encoding" {
			header[name] = values[i : i+1 : i+1]
		}
	}
	return header
}

// canonicalName is textproto.CanonicalMIMEHeaderKey, but quick for the names that
// nearly all answers have, in the spelling of nearly all servers.
func canonicalName(name string) string {
	switch name {
	case "Accept-Ranges", "Access-Control-Allow-Origin", "Age", "Alt-Svc", "Cache-Control", "Connection",
		"Content-Disposition", "Content-Encoding", "Content-Language", "Content-Length", "Content-Range",
		"Content-Security-Policy", "Content-Type", "Date", "Etag", "Expires", "Keep-Alive", "Last-Modified", "Link",
		"Location", "Pragma", "Referrer-Policy", "Server", "Set-Cookie", "Strict-Transport-Security",
		"Transfer-Encoding", "Vary", "Via", "X-Content-Type-Options", "X-Frame-Options", "X-Powered-By",
		"X-Request-Id", "X-Xss-Protection":
		return name
	case "ETag":
		return "Etag"
	}
	return textproto.CanonicalMIMEHeaderKey(name)
}

// within is the part of text that part is of block, where text is block as a string.
// Its place is found by part's capacity, which ends where that of block does.
func within(text string, block, part []byte) string {
	start := cap(block) - cap(part)
	return text[start : start+len(part)]
}

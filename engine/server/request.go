package server

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"

	"golang.org/x/net/http/httpguts"

	"detour/engine/wire"
)

// ioError means that the connection broke while a head was read. Nobody waits for an
// answer.
type ioError struct{ error }

const errHeadCut = wire.Malformed("end of the connection within a head")

// maxScratch is how many fields a store keeps room for; few requests have more.
const maxScratch = 64

// receive reads the head of a request and makes an exchange of it.
func (c *conn) receive() (*exchange, error) {
	head, err := c.readHead()
	if err != nil {
		return nil, err
	}
	fields := c.in.store.fields[:0]
	h, err := wire.ParseHead(head, &fields)
	if err != nil {
		return nil, err
	}
	if len(fields) <= maxScratch {
		c.in.store.fields = fields
	}
	x := newExchange()
	r, text := x.request, headText{string(head), cap(head)}
	r.Method, r.RequestURI, r.URL = text.part(h.Method), text.part(h.Target), &x.url
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, h.Minor
	if h.Minor == 0 {
		r.Proto = "HTTP/1.0"
	}
	if h.Host != nil {
		r.Host = text.part(h.Host)
	}
	r.ContentLength, r.RemoteAddr, r.TLS = h.Length, c.remote, c.tls
	if !x.parseTarget(r) {
		return nil, wire.ErrTarget
	}
	if tidy := x.takeFields(fields, text); !tidy || h.Minor == 0 {
		tidyUp(r)
	}
	c.in.skip(len(head))
	x.begin(c)
	return x, nil
}

// headText is a head as one string, of which all strings in the request are parts.
type headText struct {
	text string
	size int // capacity of the bytes that it was made of
}

// part is the part of the string that b is of those bytes. Its place is found by
// b's capacity, as both end at the same byte.
func (t headText) part(b []byte) string {
	at := t.size - cap(b)
	return t.text[at : at+len(b)]
}

// takeFields makes the header of fields. tidy means that there is nothing for tidyUp
// to do.
func (x *exchange) takeFields(fields []wire.Field, text headText) (tidy bool) {
	header := x.header
	x.request.Header = header
	values := make([]string, len(fields))
	tidy = true
	repeats := false
	for i := range fields {
		f := &fields[i]
		name := canonical(text.part(f.Name))
		switch name {
		case "Host":
			continue // Request.Host has it
		case "Connection", "Pragma", "Trailer", "Transfer-Encoding":
			tidy = false
		case "Expect":
			x.expects = true
		}
		if repeats {
			if others := header[name]; others != nil {
				header[name] = append(others, text.part(f.Value))
				continue
			}
		}
		values[i] = text.part(f.Value)
		before := len(header)
		header[name] = values[i : i+1 : i+1] // to append to it copies it
		if len(header) == before {           // the first that repeats; until now there was no need to look
			repeats = true
			header[name] = []string{firstOf(name, fields), values[i]}
		}
	}
	return tidy
}

// begin fills in the rest of x: the request's body and context, and the answer.
func (x *exchange) begin(c *conn) {
	r, w := x.request, &x.response
	r.Body = http.NoBody
	var b *body
	if r.ContentLength != 0 {
		b = &body{conn: c, request: r, left: r.ContentLength, chunked: r.ContentLength == wire.LengthChunked}
		r.Body = b
	}
	x.lifetime.Begin(c.base, c)
	w.conn, w.request, w.body, w.length, w.header, w.done = c, r, b, -1, x.answer, false
	w.options.read(r)
	if b != nil && x.expects && r.ProtoMinor == 1 && expectsContinue(r) {
		b.expect, w.mayContinue = w, true
	}
}

// readHead reads a whole head, of which there is a byte; it stays in c.in.
func (c *conn) readHead() ([]byte, error) {
	limit := c.server.Limits.HeaderBytes
	scanned, blank, timed := 0, false, false
	for {
		b := c.in.bytes()
		if !blank && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			c.in.skip(2) // one empty line before a request (RFC 9112, section 2.2)
			blank, scanned = true, 0
			continue
		}
		if len(b) > 0 && (!wire.CanBegin(b[0]) || b[0] == '\r' && (blank || len(b) > 1)) {
			// Clients of other protocols are not left waiting for the end of a "head".
			return nil, wire.ErrMethod
		}
		if len(b) > 1 {
			end, err := wire.HeadEnd(b, scanned)
			if err != nil {
				return nil, err
			}
			if end > limit {
				return nil, errHeadTooLong
			}
			if end > 0 {
				if c.batch != nil {
					c.batch.head = nil
				}
				return b[:end], nil
			}
			scanned = len(b)
		}
		if len(b) >= limit {
			return nil, errHeadTooLong
		}
		switch {
		case timed:
		case c.batch != nil:
			c.batch.head = c // TLS nearly always has all of it already, which needs no deadline
		default:
			c.startHead()
		}
		timed = true
		if err := c.in.read(c.rwc, limit); err == io.EOF && len(b) > 0 {
			return nil, errHeadCut
		} else if err != nil {
			return nil, ioError{err}
		}
	}
}

// canonical is textproto.CanonicalMIMEHeaderKey. Nearly every name is canonical
// already.
func canonical(name string) string {
	start := true // of a word
	for i := range len(name) {
		c := name[i]
		if start && c-'a' < 26 || !start && c-'A' < 26 {
			return textproto.CanonicalMIMEHeaderKey(name)
		}
		start = c == '-'
	}
	return name
}

// firstOf returns the value of the first field of that name.
func firstOf(name string, fields []wire.Field) string {
	i := slices.IndexFunc(fields, func(f wire.Field) bool { return textproto.CanonicalMIMEHeaderKey(string(f.Name)) == name })
	return string(fields[i].Value)
}

// tidyUp moves what net/http moves out of the header.
func tidyUp(r *http.Request) {
	h := r.Header
	if r.ContentLength < 0 {
		r.TransferEncoding = chunkedCoding()
		delete(h, "Transfer-Encoding")
		if announced, ok := h["Trailer"]; ok {
			delete(h, "Trailer")
			r.Trailer = wire.AnnouncedTrailer(announced)
		}
	}
	if p := h["Pragma"]; len(p) > 0 && p[0] == "no-cache" && h["Cache-Control"] == nil {
		h["Cache-Control"] = []string{"no-cache"}
	}
	if r.ProtoMinor == 0 {
		r.Close = hasToken(h["Connection"], "close") || !hasToken(h["Connection"], "keep-alive")
	} else if h["Connection"] != nil {
		r.Close = hasToken(h["Connection"], "close")
	}
}

func chunkedCoding() []string { return []string{"chunked"} }

func hasToken(values []string, token string) bool {
	return len(values) > 0 && httpguts.HeaderValuesContainsToken(values, token)
}

func expectsContinue(r *http.Request) bool {
	v := r.Header["Expect"]
	return len(v) > 0 && hasToken(v[:1], "100-continue")
}

// refusesExpectation reports whether the request expects something that is not known
// here.
func (x *exchange) refusesExpectation() bool {
	if !x.expects {
		return false
	}
	v := x.response.request.Header["Expect"]
	return len(v) > 0 && v[0] != "" && !expectsContinue(x.response.request)
}

package server

import (
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"detour/engine/wire"
)

// options is what must be known of the request for the answer. The handler may
// change the request itself.
type options struct {
	head  bool // HEAD
	old   bool // HTTP/1.0
	keep  bool // HTTP/1.0 with keep-alive, and without close
	close bool // the client wants the connection closed
}

func (o *options) read(r *http.Request) {
	o.head, o.old, o.close = r.Method == http.MethodHead, r.ProtoMinor == 0, r.Close
	if o.old {
		o.keep = !r.Close && hasToken(r.Header["Connection"], "keep-alive")
	}
}

// frozen is what the framing needs to know of the header as it was when WriteHeader
// was called. Its spans are lines in out that the framing may remove again.
type frozen struct {
	connection, length, coding, contentType span

	connectionValue string // of the first Connection field
	codingValue     string // of the first Transfer-Encoding field
	lengthValue     string // of the first Content-Length field
	hasType         bool
	hasEncoding     bool // a Content-Encoding that is not empty
	hasDate         bool
	switches        bool // to another protocol
	announces       bool // trailers
}

// span is a part of out; empty = none.
type span struct{ from, to int }

// gap is room for what the framing adds: Date, Content-Length, Content-Type,
// Connection and Transfer-Encoding, the empty line, and the line of a chunk.
const gap = 37 + 38 + 64 + 24 + 28 + 2 + chunkLine

// freeze writes the head, except for what the framing adds.
func (w *response) freeze(status int) {
	w.status = status
	out := w.outgoing()
	*out = appendStatusLine(*out, w.options.old, status)
	if len(w.header) > 0 {
		*out = w.freezeFields(*out)
	}
	w.bodyAt = len(*out) + gap
	*out = slices.Grow(*out, gap+keepBack)[:w.bodyAt]
	w.chunk = -1
}

// freezeFields writes the fields in the order of their names.
func (w *response) freezeFields(out []byte) []byte {
	sorted := wire.Sort(w.header)
	defer sorted.Release()
	for i := range sorted.Len() {
		name, values := sorted.At(i)
		if strings.HasPrefix(name, http.TrailerPrefix) {
			w.frozen.announces = true
			continue
		}
		from := len(out)
		for _, v := range values {
			out = appendField(out, name, v)
		}
		w.notice(name, values, span{from, len(out)})
	}
	if v := w.frozen.lengthValue; v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil && n >= 0 {
			w.length = n
		} else {
			w.conn.server.ErrorLog.Debug("invalid Content-Length of an answer", "value", v, "uri", w.request.RequestURI)
			out = w.takeBack(out, &w.frozen.length)
			delete(w.header, "Content-Length")
		}
	}
	return out
}

// notice remembers a field that matters to the framing.
func (w *response) notice(key string, values []string, s span) {
	f := &w.frozen
	first := ""
	if len(values) > 0 {
		first = values[0]
	}
	switch key {
	case "Connection":
		f.connection, f.connectionValue = s, first
		f.switches = w.status == http.StatusSwitchingProtocols && w.header["Upgrade"] != nil && hasToken(values, "upgrade")
	case "Content-Encoding":
		f.hasEncoding = first != ""
	case "Content-Length":
		f.length, f.lengthValue = s, first
	case "Content-Type":
		f.contentType, f.hasType = s, true
		if strings.HasPrefix(first, "text/event-stream") {
			w.conn.expectEvents()
		}
	case "Date":
		f.hasDate = true
	case "Trailer":
		f.announces = f.announces || len(values) > 0
		for _, v := range values {
			w.announce(v)
		}
	case "Transfer-Encoding":
		f.coding, f.codingValue = s, first
	}
}

// announce notes the trailers that a Trailer field names.
func (w *response) announce(names string) {
	for name := range strings.SplitSeq(names, ",") {
		if name = textproto.TrimString(name); name == "" {
			continue
		}
		if name = textproto.CanonicalMIMEHeaderKey(name); httpguts.ValidTrailerHeader(name) {
			w.trailers = append(w.trailers, name)
		}
	}
}

// takeBack removes the lines of s from out, and moves the other spans.
func (w *response) takeBack(out []byte, s *span) []byte {
	n := s.to - s.from
	if n == 0 {
		return out
	}
	from := s.from
	out = append(out[:from], out[s.to:]...)
	*s = span{}
	for _, other := range []*span{&w.frozen.connection, &w.frozen.length, &w.frozen.coding, &w.frozen.contentType} {
		if other.from > from {
			other.from -= n
			other.to -= n
		}
	}
	return out
}

// inform sends an interim (1xx) answer.
func (w *response) inform(status int) {
	b := outPool.Get().(*[]byte)
	out := appendStatusLine((*b)[:0], w.options.old, status)
	sorted := wire.Sort(w.header)
	defer sorted.Release()
	for i := range sorted.Len() {
		name, values := sorted.At(i)
		if name == "Content-Length" || name == "Transfer-Encoding" {
			continue
		}
		for _, v := range values {
			out = appendField(out, name, v)
		}
	}
	out = append(out, "\r\n"...)
	_ = w.conn.write(out) // the answer itself fails too
	*b = out
	putOut(b)
}

func appendStatusLine(b []byte, old bool, status int) []byte {
	if old {
		b = append(b, "HTTP/1.0 "...)
	} else {
		b = append(b, "HTTP/1.1 "...)
	}
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	if text := http.StatusText(status); text != "" {
		b = append(b, text...)
	} else {
		b = append(b, "status code "...)
		b = strconv.AppendInt(b, int64(status), 10)
	}
	return append(b, "\r\n"...)
}

// appendField appends a line; with an invalid name it appends none, as net/http
// does, since nobody could be told. Control characters in the value become spaces: a
// line break would let the value pose as another field, and the others are read in
// more than one way.
func appendField(b []byte, name, value string) []byte {
	if b, err := wire.AppendField(b, name, value); err == nil {
		return b
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return b
	}
	b = append(b, name...)
	b = append(b, ": "...)
	from := len(b)
	b = append(b, textproto.TrimString(value)...)
	for i, c := range b[from:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			b[from+i] = ' '
		}
	}
	return append(b, "\r\n"...)
}

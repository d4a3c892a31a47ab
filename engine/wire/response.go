package wire

import (
	"bytes"
	"strconv"
)

// MalformedResponse is what Malformed is for requests.
type MalformedResponse string

func (m MalformedResponse) Error() string { return "malformed response: " + string(m) }

// What is wrong with a response and cannot be with a request.
const (
	errStatus = Malformed("status")
	errReason = Malformed("reason phrase")
)

// LengthNone is the Response.Length of a head that declares none: its body, if
// status and request method allow one, ends with the connection.
const LengthNone = -2

// Response is what a response head says. Its slices point into the bytes parsed.
type Response struct {
	Minor      int // HTTP/1.Minor: 0 or 1
	Status     int // 100 to 999
	StatusText []byte
	Length     int64 // as declared: of the body, LengthChunked or LengthNone
	KeepAlive  int64 // seconds that the connection lasts unused, as a Keep-Alive field says; -1 = none says so
	Close      bool  // the connection ends after this response
	Trailer    bool  // it has a Trailer field
}

// LooksLikeResponse reports whether b, the first bytes received, may be the
// beginning of a response head, so that another protocol is noticed without waiting
// for the end of its "head".
func LooksLikeResponse(b []byte) bool {
	const version = "HTTP/1."
	n := min(len(b), len(version))
	return string(b[:n]) == version[:n]
}

// ResponseEnd is HeadEnd for a response's head or trailers.
func ResponseEnd(b []byte, scanned int) (int, error) {
	end, err := HeadEnd(b, scanned)
	if err != nil {
		return 0, OfResponse(err)
	}
	return end, nil
}

// ParseResponse reads a whole response head, from the status line to the empty
// line, which b must end with. If fields is not nil the head's fields are appended
// to it, in order. It refuses more than net/http does. The error is a
// MalformedResponse.
func ParseResponse(b []byte, fields *[]Field) (Response, error) {
	r, err := parseResponse(b, fields)
	if err != nil {
		return Response{}, OfResponse(err)
	}
	return r, nil
}

// OfResponse turns an error of the common grammar, such as Chunked's, into that of a
// response: a Malformed becomes a MalformedResponse, others are returned as they
// are.
func OfResponse(err error) error {
	if m, ok := err.(Malformed); ok {
		return MalformedResponse(m)
	}
	return err
}

func parseResponse(b []byte, fields *[]Field) (r Response, err error) {
	rest, err := r.statusLine(b)
	if err != nil {
		return r, err
	}
	r.Length, r.KeepAlive = LengthNone, -1
	var framing responseFraming
	var f Field
	for string(rest) != "\r\n" {
		n, err := f.parse(rest)
		if err != nil {
			return r, err
		}
		if err := framing.add(&r, &f); err != nil {
			return r, err
		}
		if fields != nil {
			*fields = append(*fields, f)
		}
		rest = rest[n:]
	}
	return r, framing.settle(&r)
}

// statusLine reads the first line of b and returns what follows it (RFC 9112,
// section 4). Without a reason phrase the space before it may be absent too, since
// quite a few servers leave it out.
func (r *Response) statusLine(b []byte) (rest []byte, err error) {
	const start = "HTTP/1.x 200"
	if len(b) < len(start)+2 || !LooksLikeResponse(b) || b[7] != '0' && b[7] != '1' || b[8] != ' ' {
		return nil, errVersion
	}
	r.Minor = int(b[7] - '0')
	for _, c := range b[9:12] {
		if !isDigit(c) {
			return nil, errStatus
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 || b[12] != ' ' && b[12] != '\r' {
		return nil, errStatus
	}
	i := 12
	for i < len(b) && is(b[i], valueByte) {
		i++
	}
	if i+1 >= len(b) || b[i] != '\r' || b[i+1] != '\n' {
		return nil, errReason
	}
	r.StatusText = b[9:i]
	return b[i+2:], nil
}

// responseFraming collects the fields of a head that say where the message ends.
type responseFraming struct {
	length, coding   bool
	close, keepAlive bool
}

func (fr *responseFraming) add(r *Response, f *Field) error {
	switch len(f.Name) { // nearly every field is none of these
	case len("trailer"):
		if equalFold(f.Name, "trailer") {
			r.Trailer = true
			if announcesFraming(f.Value) {
				return errTrailerField
			}
		}
	case len("connection"): // and of "keep-alive"
		if equalFold(f.Name, "connection") {
			fr.options(f.Value)
		} else if equalFold(f.Name, "keep-alive") {
			r.keepAlive(f.Value)
		}
	case len("content-length"):
		if equalFold(f.Name, "content-length") {
			if fr.length {
				return errLengthTwice // equal ones too: the next parser may not compare
			}
			fr.length = true
			n, ok := parseLength(f.Value)
			if !ok {
				return errLength
			}
			r.Length = n
		}
	case len("transfer-encoding"):
		if equalFold(f.Name, "transfer-encoding") {
			if fr.coding {
				return errCodingTwice
			}
			fr.coding = true
			if !equalFold(f.Value, "chunked") {
				return errCoding
			}
		}
	}
	return nil
}

// options reads a Connection field.
func (fr *responseFraming) options(v []byte) {
	for len(v) > 0 {
		var option []byte
		option, v, _ = bytes.Cut(v, []byte{','})
		option = bytes.Trim(option, " \t")
		fr.close = fr.close || equalFold(option, "close")
		fr.keepAlive = fr.keepAlive || equalFold(option, "keep-alive")
	}
}

// keepAlive reads a Keep-Alive field (RFC 2068, section 19.7.1.1), such as
// "timeout=5, max=100". max counts requests, and matters only when none is left.
// What makes no sense is ignored.
func (r *Response) keepAlive(v []byte) {
	for len(v) > 0 {
		var parameter []byte
		parameter, v, _ = bytes.Cut(v, []byte{','})
		name, value, _ := bytes.Cut(bytes.Trim(parameter, " \t"), []byte{'='})
		n, ok := parseLength(value)
		if !ok || n > 999_999_999 { // thirty years: it fits a time.Duration
			continue
		}
		if equalFold(name, "timeout") && (r.KeepAlive < 0 || n < r.KeepAlive) || equalFold(name, "max") && n == 0 {
			r.KeepAlive = n
		}
	}
}

// settle decides what only the whole head can tell (RFC 9112, sections 6.1, 9.3).
func (fr *responseFraming) settle(r *Response) error {
	if fr.coding {
		if fr.length {
			return errBothFramings
		}
		if r.Minor == 0 {
			return errCodingOld
		}
		r.Length = LengthChunked
	}
	r.Close = fr.close || r.Minor == 0 && !fr.keepAlive
	return nil
}

// ParseResponseTrailers reads a whole trailer section, up to and with the empty
// line that b must end with, and appends its fields. Fields that frame a message are
// refused; others that have no business in trailers (RFC 9110, section 6.5.1) are
// left out: by then most of the answer has been passed on, and nobody acts on them.
func ParseResponseTrailers(b []byte, fields *[]Field) error {
	var f Field
	for string(b) != "\r\n" {
		n, err := f.parse(b)
		if err != nil {
			return OfResponse(err)
		}
		if equalFold(f.Name, "transfer-encoding") || equalFold(f.Name, "content-length") || equalFold(f.Name, "trailer") {
			return OfResponse(errTrailerField)
		}
		if trailerAllowed(f.Name) {
			*fields = append(*fields, f)
		}
		b = b[n:]
	}
	return nil
}

// AppendChunkLine appends the line that begins a chunk of n bytes.
func AppendChunkLine(b []byte, n int) []byte {
	return append(strconv.AppendUint(b, uint64(n), 16), '\r', '\n')
}

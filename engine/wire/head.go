package wire

import "bytes"

// Malformed says why bytes are not HTTP/1 as this package reads it. Its text is
// fixed and holds nothing of what was received.
type Malformed string

func (m Malformed) Error() string { return "malformed request: " + string(m) }

// Status is the status with which a server answers a request that has this mistake:
// 501 or 505 for what is well-formed but not supported, else 400.
func (m Malformed) Status() int {
	switch m {
	case errCodingUnknown:
		return 501 // RFC 9112, section 6.1
	case errVersionUnknown:
		return 505 // RFC 9110, section 15.6.6
	}
	return 400
}

// What is wrong with a request. Tests and logs tell them apart. The exported ones
// are for a server that sees them without ParseHead.
const (
	errBareLF         = Malformed("line feed without carriage return")
	ErrMethod         = Malformed("method")
	ErrTarget         = Malformed("request target")
	errVersion        = Malformed("version")
	errFieldName      = Malformed("field name")
	errFieldValue     = Malformed("field value")
	errHostMissing    = Malformed("no Host")
	errHostTwice      = Malformed("several Host fields")
	errHost           = Malformed("Host")
	errHostDiffers    = Malformed("Host differs from the request target")
	errLength         = Malformed("Content-Length")
	errLengthTwice    = Malformed("several Content-Length fields")
	errCoding         = Malformed("Transfer-Encoding other than chunked")
	errCodingUnknown  = Malformed("Transfer-Encoding with a coding before chunked")
	errVersionUnknown = Malformed("version other than HTTP/1.0 and 1.1")
	errCodingTwice    = Malformed("several Transfer-Encoding fields")
	errCodingOld      = Malformed("Transfer-Encoding in HTTP/1.0")
	errBothFramings   = Malformed("Transfer-Encoding and Content-Length")
	errConnectBody    = Malformed("CONNECT with a body")
	errEnd            = Malformed("no end of head")
)

// LengthChunked is the Head.Length of a chunked body.
const LengthChunked = -1

// Head is what a request head says. Its slices point into the bytes parsed.
type Head struct {
	Method []byte
	Target []byte // as received
	Minor  int    // HTTP/1.Minor: 0 or 1
	Host   []byte // value of the Host field; nil = none, which only HTTP/1.0 may have
	Length int64  // of the body that follows; 0 = none, LengthChunked
	// Upgrade reports that another protocol may follow: the request has an
	// Upgrade field, or is a CONNECT.
	Upgrade bool
}

// Field is one field line, without the white space around its value.
type Field struct{ Name, Value []byte }

// HeadEnd looks for the empty line that ends a block of lines at the start of
// b: a request head, or trailers. It returns the length of the block with the
// empty line, or 0 when b does not hold all of it yet. The first scanned bytes
// of b are known to hold no end: pass what len(b) was at the last call.
func HeadEnd(b []byte, scanned int) (int, error) {
	for i := scanned; ; i++ {
		next := bytes.IndexByte(b[i:], '\n')
		if next < 0 {
			return 0, nil
		}
		i += next
		if i == 0 || b[i-1] != '\r' {
			return 0, errBareLF
		}
		if i == 1 || b[i-2] == '\n' {
			return i + 1, nil
		}
	}
}

// ParseHead reads a whole request head, from the request line to the empty
// line, which b must end with. If fields is not nil the head's fields are
// appended to it, in order. The error is a Malformed.
func ParseHead(b []byte, fields *[]Field) (Head, error) {
	var h Head
	rest, err := h.requestLine(b)
	if err != nil {
		return Head{}, err
	}
	var framing framing
	var f Field
	for string(rest) != "\r\n" {
		n, err := f.parse(rest)
		if err != nil {
			return Head{}, err
		}
		if err := framing.add(&h, &f); err != nil {
			return Head{}, err
		}
		if fields != nil {
			*fields = append(*fields, f)
		}
		rest = rest[n:]
	}
	if err := framing.settle(&h); err != nil {
		return Head{}, err
	}
	return h, nil
}

// requestLine reads the first line of b and returns what follows it (RFC 9112,
// section 3): one space between the parts, nothing before or after them.
func (h *Head) requestLine(b []byte) (rest []byte, err error) {
	i := 0
	for i < len(b) && is(b[i], tokenByte) {
		i++
	}
	if i == 0 || i == len(b) || b[i] != ' ' {
		return nil, ErrMethod
	}
	h.Method, b = b[:i], b[i+1:]

	i = 0
	for i < len(b) && is(b[i], targetByte) {
		i++
	}
	if i == 0 || i == len(b) || b[i] != ' ' {
		return nil, ErrTarget
	}
	h.Target, b = b[:i], b[i+1:]

	const version = "HTTP/1.x\r\n"
	if len(b) < len(version) || string(b[:5]) != "HTTP/" || b[6] != '.' || b[8] != '\r' || b[9] != '\n' {
		return nil, errVersion
	}
	if b[5] != '1' || b[7] != '0' && b[7] != '1' {
		if isDigit(b[5]) && isDigit(b[7]) {
			return nil, errVersionUnknown
		}
		return nil, errVersion
	}
	h.Minor = int(b[7] - '0')
	return b[len(version):], nil
}

// parse reads the field line at the start of b (RFC 9112, section 5) and returns its
// length. Behind it b must have another line. One that continues the line before it
// (obs-fold) is refused, as it has no name.
func (f *Field) parse(b []byte) (n int, err error) {
	i := 0
	for i < len(b) && is(b[i], tokenByte) {
		i++
	}
	if i == 0 || i == len(b) || b[i] != ':' {
		return 0, errFieldName
	}
	f.Name = b[:i]
	i++
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	end := i + bytes.IndexByte(b[i:], '\r')
	if end < i || end+1 >= len(b) || b[end+1] != '\n' || !validValue(b[i:end]) {
		return 0, errFieldValue
	}
	if n = end + 2; n == len(b) {
		return 0, errEnd
	}
	for end > i && (b[end-1] == ' ' || b[end-1] == '\t') {
		end--
	}
	f.Value = b[i:end]
	return n, nil
}

// framing collects the fields of a head that say where the message ends and
// whom it is for.
type framing struct {
	host, length, coding bool
}

func (fr *framing) add(h *Head, f *Field) error {
	switch len(f.Name) { // nearly every field is none of these
	case len("host"):
		if equalFold(f.Name, "host") {
			if fr.host {
				return errHostTwice
			}
			fr.host = true
			h.Host = f.Value
			if !validHost(f.Value) {
				return errHost
			}
		}
	case len("upgrade"): // and of "trailer"
		if equalFold(f.Name, "upgrade") {
			h.Upgrade = true
		}
		if equalFold(f.Name, "trailer") && announcesFraming(f.Value) {
			return errTrailerField
		}
	case len("content-length"):
		if equalFold(f.Name, "content-length") {
			if fr.length {
				return errLengthTwice // equal ones too: nobody honest sends them
			}
			fr.length = true
			n, ok := parseLength(f.Value)
			if !ok {
				return errLength
			}
			h.Length = n
		}
	case len("transfer-encoding"):
		if equalFold(f.Name, "transfer-encoding") {
			if fr.coding {
				return errCodingTwice
			}
			fr.coding = true
			if !equalFold(f.Value, "chunked") {
				return wrongCoding(f.Value)
			}
		}
	}
	return nil
}

// wrongCoding tells a coding that is not supported but leaves the end of the body
// clear from one that does not (RFC 9112, section 6.3).
func wrongCoding(v []byte) error {
	last := bytes.LastIndexByte(v, ',')
	if last < 0 || !equalFold(bytes.Trim(v[last+1:], " \t"), "chunked") {
		return errCoding
	}
	for name := range bytes.SplitSeq(v[:last], []byte{','}) {
		name = bytes.Trim(name, " \t")
		i := 0
		for i < len(name) && is(name[i], tokenByte) {
			i++
		}
		if i == 0 || i < len(name) || equalFold(name, "chunked") {
			return errCoding
		}
	}
	return errCodingUnknown
}

// announcesFraming reports whether a Trailer field names a field that would
// change where the message ends.
func announcesFraming(v []byte) bool {
	for len(v) > 0 {
		var name []byte
		name, v, _ = bytes.Cut(v, []byte{','})
		name = bytes.Trim(name, " \t")
		if equalFold(name, "transfer-encoding") || equalFold(name, "content-length") || equalFold(name, "trailer") {
			return true
		}
	}
	return false
}

// settle checks what only the whole head can tell (RFC 9112, sections 3.2, 6.1).
func (fr *framing) settle(h *Head) error {
	if fr.coding {
		if fr.length {
			return errBothFramings
		}
		if h.Minor == 0 {
			return errCodingOld
		}
		h.Length = LengthChunked
	}
	if !fr.host && h.Minor != 0 {
		return errHostMissing
	}
	if string(h.Method) == "CONNECT" {
		h.Upgrade = true
		if fr.length || fr.coding {
			return errConnectBody
		}
	}
	return h.checkTarget()
}

// parseLength reads a Content-Length: digits alone, no list, no sign and no
// leading zero, which some parsers read as octal.
func parseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > 18 || v[0] == '0' && len(v) > 1 { // 18 digits fit an int64
		return 0, false
	}
	var n int64
	for _, c := range v {
		if !isDigit(c) {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

package wire

const (
	errChunkSize    = Malformed("chunk size")
	errChunkEnd     = Malformed("no CRLF after chunk")
	errChunkExt     = Malformed("chunk extension")
	errChunkWaste   = Malformed("more chunk extensions than content")
	errTrailerField = Malformed("field that must not be a trailer")
	errTrailersLong = Malformed("trailers too long")
)

const (
	// maxChunkLine bounds one chunk line. A size has at most 16 digits, and the only
	// extensions ever seen, signatures, have about 90 bytes.
	maxChunkLine = 256

	// maxChunkWaste bounds what a body may spend on chunk lines beyond the
	// content they carry (CVE-2023-39326). net/http's limit.
	maxChunkWaste = 16 << 10
)

// Chunked follows a chunked body (RFC 9112, section 7.1). Its zero value stands
// before the first chunk.
type Chunked struct {
	// Padded lets spaces and tabs follow a chunk's size, against the grammar: older
	// Tomcats and small devices pad a size to four places with them, and most
	// clients accept that. It is for responses, which come from the operator's own
	// servers and are framed anew before anybody else reads them.
	Padded bool

	state chunkState
	left  uint64 // of the chunk's data; while in its line: the size so far
	line  int    // bytes of the chunk line so far
	waste int64  // see maxChunkWaste
}

type chunkState uint8

const (
	inSize    chunkState = iota
	inPadding            // see Padded
	inExtension
	inSizeLF // after the line's CR
	inData
	inDataCR
	inDataLF
)

// Scan reads the next bytes of the body from b, which it does not change. It returns
// how many of them belong to the body and are well-formed. done reports that they
// end with the last chunk's line: what follows is the trailer section, for HeadEnd
// and ParseTrailers, or for ResponseEnd and ParseResponseTrailers. The error is a
// Malformed, also for a response (see OfResponse); b[n] is the byte at fault.
func (c *Chunked) Scan(b []byte) (n int, done bool, err error) {
	_, n, done, err = c.follow(b, false)
	return n, done, err
}

// Decode is Scan for callers that want the content, which it moves to the front of
// b: b[:data] is what the body carries, b[n:] does not belong to the body.
func (c *Chunked) Decode(b []byte) (data, n int, done bool, err error) { return c.follow(b, true) }

func (c *Chunked) follow(b []byte, move bool) (data, n int, done bool, err error) {
	for n < len(b) {
		if c.state == inData {
			take := int(min(uint64(len(b)-n), c.left))
			if move && data != n {
				copy(b[data:], b[n:n+take])
			}
			data += take
			n += take
			if c.left -= uint64(take); c.left == 0 {
				c.state = inDataCR
			}
			continue
		}
		if done, err = c.step(b[n]); err != nil {
			return data, n, false, err
		}
		n++
		if done {
			return data, n, true, nil
		}
	}
	return data, n, false, nil
}

// step reads one byte that is not data.
func (c *Chunked) step(b byte) (done bool, err error) {
	switch c.state {
	case inSize, inPadding, inExtension:
		return false, c.stepLine(b)
	case inSizeLF:
		if b != '\n' {
			return false, errChunkSize
		}
		c.waste = max(0, c.waste+int64(c.line)-16-2*int64(min(c.left, 1<<20)))
		if c.waste > maxChunkWaste {
			return false, errChunkWaste
		}
		c.line = 0
		if c.left == 0 {
			return true, nil
		}
		c.state = inData
	case inDataCR:
		if b != '\r' {
			return false, errChunkEnd
		}
		c.state = inDataLF
	case inDataLF:
		if b != '\n' {
			return false, errChunkEnd
		}
		c.state = inSize
	}
	return false, nil
}

// stepLine reads one byte of a chunk's line before its LF.
func (c *Chunked) stepLine(b byte) error {
	if c.line++; c.line > maxChunkLine {
		return errChunkExt
	}
	switch {
	case b == '\r':
		if c.line == 1 {
			return errChunkSize
		}
		c.state = inSizeLF
	case c.state == inExtension:
		if !is(b, valueByte) || b >= 0x80 {
			return errChunkExt
		}
	case c.Padded && c.line > 1 && (b == ' ' || b == '\t'):
		c.state = inPadding
	case c.state == inPadding:
		return errChunkSize
	case b == ';':
		if c.line == 1 {
			return errChunkSize
		}
		c.state = inExtension
	case is(b, hexByte):
		if c.line > 15 { // 60 bits: no sum of it and a position overflows
			return errChunkSize
		}
		c.left = c.left<<4 | uint64(hexValue(b))
	default:
		return errChunkSize
	}
	return nil
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// ParseTrailers reads a whole trailer section, which b must be: the empty line at
// its end included. If fields is not nil they are appended to it. Fields that frame,
// route or control a message are refused (RFC 9110, section 6.5.1). The error is a
// Malformed.
func ParseTrailers(b []byte, fields *[]Field) error {
	var f Field
	for string(b) != "\r\n" {
		n, err := f.parse(b)
		if err != nil {
			return err
		}
		if !trailerAllowed(f.Name) {
			return errTrailerField
		}
		if fields != nil {
			*fields = append(*fields, f)
		}
		b = b[n:]
	}
	return nil
}

func trailerAllowed(name []byte) bool {
	for _, no := range [...]string{
		"transfer-encoding", "content-length", "host", "trailer", "te", "connection", "upgrade",
		"content-encoding", "content-type", "content-range", "expect", "range", "max-forwards",
		"authorization", "proxy-authorization", "cookie", "set-cookie", "cache-control", "keep-alive", "proxy-connection",
	} {
		if equalFold(name, no) {
			return false
		}
	}
	return true
}

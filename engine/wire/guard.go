package wire

import (
	"errors"
	"io"
	"net"
)

// Guard is a net.Conn that lets only unambiguous HTTP/1 requests be read from
// the connection it wraps, byte for byte. It is made for net/http's server:
//
//   - In place of a malformed head the server reads bytes that it is certain to
//     answer with 400 and a close, then the end. The Guard itself writes
//     nothing, as the answer to an earlier request may be on its way.
//   - A head over the limit is read without an end, which the server answers
//     with 431.
//   - In place of a malformed body, Read fails with a Malformed from there on,
//     so no byte after it is ever taken for a request.
//   - The first bytes of a head are given at once, so that the server sees the
//     connection become busy; they are too few to be a request.
//
// After a request that asks for another protocol, what follows is judged only
// when the server reads on; PassThrough ends the guarding for good.
//
// Like with any connection Read may run beside Write, Close and the deadlines,
// but not beside itself or PassThrough. A Guard holds no memory while the
// client is silent between requests.
type Guard struct {
	net.Conn
	limit int // of a head, in bytes

	state   guardState
	upgrade bool    // this request asks for another protocol
	asked   bool    // the last request did, and it is not known yet whether it was granted
	left    int64   // of a body with a length
	chunked Chunked // of a chunked one
	wrong   error   // why the bytes after the approved ones are refused

	// buf holds what was read but not given: buf[:approved] may be given; of what
	// follows, the first given bytes were already (see preview), and the first
	// scanned ones hold no end of a head.
	buf      []byte
	approved int
	given    int
	scanned  int
	blank    bool // the empty line tolerated before this request was there
}

type guardState uint8

const (
	inHead guardState = iota
	inBody
	inChunks
	inTrailers
	passing  // all is given as it comes
	endless  // the head was too long
	refusing // the head was malformed
)

const (
	// refusal is what a server reads after at most maxPreview bytes of a
	// malformed head: whatever they were, this makes no request line.
	refusal = "\x00\r\n\r\n"

	// maxPreview is how much is given of a head that was not judged yet: what
	// net/http waits for before its time limit for a head begins. It is too short
	// to hold even a request line's version.
	maxPreview = 4

	// maxTrailers is what net/http's reader of trailers can hold.
	maxTrailers = 4 << 10
)

// NewGuard guards what is read from c. A head of more than headLimit bytes is
// too long.
func NewGuard(c net.Conn, headLimit int) *Guard { return &Guard{Conn: c, limit: headLimit} }

// PassThrough ends the guarding: from here on another protocol is spoken. It is
// for the handler that hijacked the connection, after it did.
func (g *Guard) PassThrough() {
	g.buf = g.buf[g.given:]
	g.given = 0
	g.approved = len(g.buf)
	g.state, g.asked, g.wrong = passing, false, nil
}

// CloseWrite half-closes the connection; errors.ErrUnsupported if it cannot.
func (g *Guard) CloseWrite() error {
	if c, ok := g.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Read reads from the connection what may be read of it.
func (g *Guard) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if g.asked && g.approved == 0 && len(p) > 1 {
		// net/http reads single bytes while a handler runs, to notice that the
		// client went. More than that: the upgrade was not granted, and the
		// next request is wanted.
		g.asked = false
		g.judgeBuffer()
	}
	for {
		switch {
		case g.approved > 0:
			return g.give(p), nil
		case g.wrong != nil && g.state != inHead:
			return 0, g.wrong
		case g.wrong != nil:
			g.refuse()
		case g.state == endless:
			return fill(p), nil
		case g.state == refusing:
			return 0, io.EOF
		case len(g.buf) == 0:
			n, err := g.readInto(p)
			if n > 0 || err != nil {
				return n, err
			}
		case g.state == inHead && g.skipBlank():
		case g.state == inHead && !g.plausible():
			g.wrong = ErrMethod
		case g.state == inHead && g.given < min(maxPreview, len(g.buf)) && (g.buf[0] != '\r' || g.asked):
			return g.preview(p), nil
		default:
			if err := g.readMore(); err != nil {
				return 0, err
			}
		}
	}
}

// readInto reads straight into p, the usual case: one read brings one whole
// head. What could not be approved of it is kept for the next turn.
func (g *Guard) readInto(p []byte) (int, error) {
	if g.state == inBody && g.left < int64(len(p)) {
		p = p[:g.left]
	}
	n, err := g.Conn.Read(p)
	if n == 0 {
		return 0, err
	}
	// An error that came with bytes comes again with the next read.
	ok := g.judge(p[:n])
	if ok < n {
		g.buf = append(g.buf, p[ok:n]...)
	}
	return ok, nil
}

// readMore reads behind what is kept, which was not enough for a verdict.
func (g *Guard) readMore() error {
	limit := g.limit
	if g.state == inTrailers {
		limit = maxTrailers
	}
	if len(g.buf) >= limit {
		if g.state == inTrailers {
			g.wrong = errTrailersLong
			return nil
		}
		g.state = endless
		g.buf = g.buf[:limit] // its end, should it be there, is behind
		g.approve(limit)
		return nil
	}
	const step = 4 << 10 // net/http's own
	if cap(g.buf)-len(g.buf) < step/4 {
		g.buf = append(make([]byte, 0, len(g.buf)*2+step), g.buf...)
	}
	n, err := g.Conn.Read(g.buf[len(g.buf):min(cap(g.buf), limit)])
	if n == 0 {
		return err
	}
	g.buf = g.buf[:len(g.buf)+n]
	g.judgeBuffer()
	return nil
}

func (g *Guard) judgeBuffer() { g.approve(g.judge(g.buf)) }

// approve lets the first n bytes of buf be given, but for those that were.
func (g *Guard) approve(n int) {
	if n == 0 {
		return
	}
	g.buf = g.buf[g.given:]
	g.approved = n - g.given
	g.given = 0
}

// give hands out approved bytes.
func (g *Guard) give(p []byte) int {
	n := copy(p, g.buf[:g.approved])
	g.approved -= n
	if g.buf = g.buf[n:]; len(g.buf) == 0 {
		g.buf = nil
	}
	return n
}

// preview hands out the first bytes of a head that is not complete yet.
func (g *Guard) preview(p []byte) int {
	n := copy(p, g.buf[g.given:min(maxPreview, len(g.buf))])
	g.given += n
	return n
}

// plausible reports whether buf starts like a request, so that other protocols
// need not wait for the end of their "head".
func (g *Guard) plausible() bool {
	return g.asked || is(g.buf[0], tokenByte) || len(g.buf) == 1 && g.buf[0] == '\r'
}

// skipBlank drops one empty line before a request line (RFC 9112, section 2.2).
func (g *Guard) skipBlank() bool {
	if g.asked || g.blank || g.given > 0 || len(g.buf) < 2 || g.buf[0] != '\r' || g.buf[1] != '\n' {
		return false
	}
	g.blank = true
	if g.buf = g.buf[2:]; len(g.buf) == 0 {
		g.buf = nil
	}
	g.scanned = 0
	g.judgeBuffer()
	return true
}

// refuse makes the server answer 400.
func (g *Guard) refuse() {
	g.state, g.wrong = refusing, nil
	g.buf = append(g.buf[:0:0], refusal...)
	g.given, g.approved = 0, len(g.buf)
}

// fill gives p bytes that end no line.
func fill(p []byte) int {
	for i := range p {
		p[i] = 'a'
	}
	return len(p)
}

// judge reads b, the bytes that follow those judged before, and returns how
// many of them may be given. It stops where a verdict needs more bytes, where
// another protocol may begin, and, with g.wrong set, where b is malformed.
func (g *Guard) judge(b []byte) (ok int) {
	for ok < len(b) && g.wrong == nil && !g.asked {
		switch rest := b[ok:]; g.state {
		case inHead:
			n := g.judgeHead(rest, ok == 0 && g.given > 0)
			if n == 0 {
				return ok
			}
			ok += n
		case inBody:
			n := min(int64(len(rest)), g.left)
			ok += int(n)
			if g.left -= n; g.left == 0 {
				g.endMessage()
			}
		case inChunks:
			n, done, err := g.chunked.Scan(rest)
			ok += n
			g.wrong = err
			if done {
				g.state = inTrailers
			}
		case inTrailers:
			n := g.judgeTrailers(rest)
			if n == 0 {
				return ok
			}
			ok += n
		default:
			return len(b)
		}
	}
	return ok
}

// judgeHead returns the length of the good head at the start of b, or 0. shown
// says that its first bytes were previewed.
func (g *Guard) judgeHead(b []byte, shown bool) int {
	if b[0] == '\r' && !g.blank && !shown && (len(b) == 1 || b[1] == '\n') {
		return 0 // the empty line that skipBlank drops
	}
	end := g.blockEnd(b)
	if end == 0 {
		return 0
	}
	if end > g.limit {
		return 0 // readMore finds it too long
	}
	h, err := ParseHead(b[:end], nil)
	if err != nil {
		g.wrong = err
		return 0
	}
	g.blank = false
	g.upgrade = h.Upgrade
	switch {
	case h.Length > 0:
		g.state, g.left = inBody, h.Length
	case h.Length == LengthChunked:
		g.state, g.chunked = inChunks, Chunked{}
	default:
		g.endMessage()
	}
	return end
}

// judgeTrailers returns the length of the good trailer section at the start of
// b, or 0.
func (g *Guard) judgeTrailers(b []byte) int {
	end := g.blockEnd(b)
	if end == 0 {
		return 0
	}
	if g.wrong = ParseTrailers(b[:end], nil); g.wrong != nil {
		return 0
	}
	g.endMessage()
	return end
}

func (g *Guard) endMessage() { g.state, g.asked = inHead, g.upgrade }

// blockEnd is HeadEnd, which remembers how far it looked.
func (g *Guard) blockEnd(b []byte) int {
	end, err := HeadEnd(b, g.scanned)
	g.wrong = err
	g.scanned = 0
	if end == 0 && err == nil {
		g.scanned = len(b)
	}
	return end
}

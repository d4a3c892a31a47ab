package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"

	"detour/engine/wire"
)

// responseWriter is the http.ResponseWriter of a stream. Only the handler's goroutine
// may use it, except for the deadlines.
type responseWriter struct {
	st      *stream
	head    bool // the answer has no body, as the request is HEAD
	refusal int  // status that the engine answers itself; 0 = the handler answers

	header    http.Header // the handler's, to be used again
	status    int         // 0 = WriteHeader was not called
	length    int64       // Content-Length as the handler declared it; -1 = it did not
	written   int64       // of the body, by the handler
	said      int64       // Content-Length as it is sent; -1 = it is not
	excess    bool        // the handler tried to write more than it declared
	noBody    bool        // the status, or HEAD, has none
	sent      bool        // the header is sent; written while Conn.mu is held
	done      bool        // the handler has returned; until a new stream has the writer
	goAway    bool        // the handler set "Connection: close"
	typed     bool        // there is a Content-Type or Content-Encoding: nothing is guessed
	dated     bool
	trailers  []string // announced
	*snapshot          // nil = before WriteHeader
}

// snapshot is what an answer needs while it is made: the header as it was when
// WriteHeader was called, and the beginning of the body, which may prove to be all of
// it.
type snapshot struct {
	fields []answerField
	held   int
	body   [holdBack]byte
}

// answerField is a field of an answer, or of its trailers.
type answerField struct {
	name  wireName
	value string
}

// holdBack is how much of a body is held back until the handler returns or flushes, so
// that short answers have a length. It is net/http's.
const holdBack = 4 << 10

var snapshots = sync.Pool{New: func() any { return new(snapshot) }}

var (
	_ http.Flusher    = (*responseWriter)(nil)
	_ io.StringWriter = (*responseWriter)(nil)
)

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	if w.status != 0 || w.done {
		return
	}
	if status < 100 || status > 999 {
		panic(fmt.Sprintf("invalid WriteHeader code %v", status)) // as net/http does
	}
	if status < 200 {
		w.sendInterim(status)
		return
	}
	w.status = status
	w.noBody = w.head || !wire.BodyAllowed(status)
	w.length, w.said = -1, -1
	w.snapshot = snapshots.Get().(*snapshot)
	sorted := wire.Sort(w.header)
	defer sorted.Release()
	for i := range sorted.Len() {
		w.keep(sorted.At(i))
	}
}

// keep puts a header into the snapshot.
func (w *responseWriter) keep(name string, values []string) {
	switch name {
	case "Content-Length":
		if len(values) > 0 {
			if n, err := strconv.ParseUint(values[0], 10, 63); err == nil {
				w.length = int64(n)
			}
		}
		return // appended later
	case "Content-Type":
		w.typed = true
		if len(values) > 0 && waitsForever(&w.st.request, values[0]) {
			w.st.setSilent()
		}
	case "Content-Encoding":
		w.typed = w.typed || len(values) > 0 && values[0] != ""
	case "Date":
		w.dated = true
	case "Trailer":
		for _, v := range values {
			for name := range strings.SplitSeq(v, ",") {
				w.announce(textproto.TrimString(name))
			}
		}
	case "Connection":
		w.goAway = len(values) > 0 && values[0] == "close"
		return
	case "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade":
		return // HTTP/1's (RFC 9113, section 8.2.2)
	}
	w.fields = appendFields(w.fields, name, values)
}

// announce notes a trailer's name.
func (w *responseWriter) announce(name string) {
	name = http.CanonicalHeaderKey(name)
	if name != "" && httpguts.ValidTrailerHeader(name) && !slices.Contains(w.trailers, name) {
		w.trailers = append(w.trailers, name)
	}
}

// appendFields appends what can be sent of a header, without the white space
// around values.
func appendFields(fields []answerField, name string, values []string) []answerField {
	n := wireNameOf(name)
	if n.name == "" {
		return fields
	}
	for _, v := range values {
		if v = textproto.TrimString(v); all(v, valueByte) {
			fields = append(fields, answerField{n, v})
		}
	}
	return fields
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if err := w.allow(len(p)); err != nil {
		return 0, err
	}
	if len(p) > len(w.body)-w.held && w.held > 0 { // as bufio does: what is guessed of a body depends on its pieces
		n := copy(w.body[w.held:], p)
		w.held += n
		if err := w.send(w.take(), false); err != nil {
			return n, err
		}
		m, err := w.write(p[n:])
		return n + m, err
	}
	return w.write(p)
}

func (w *responseWriter) write(p []byte) (int, error) {
	if len(p) > len(w.body)-w.held {
		if err := w.send(p, false); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	w.held += copy(w.body[w.held:], p)
	return len(p), nil
}

func (w *responseWriter) WriteString(s string) (int, error) {
	if len(s) <= holdBack && w.snapshot != nil && len(s) <= len(w.body)-w.held {
		if err := w.allow(len(s)); err != nil {
			return 0, err
		}
		w.held += copy(w.body[w.held:], s)
		return len(s), nil
	}
	return w.Write([]byte(s))
}

// allow checks that n bytes more may be written.
func (w *responseWriter) allow(n int) error {
	if w.done {
		return errHandlerDone
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if !wire.BodyAllowed(w.status) {
		return http.ErrBodyNotAllowed
	}
	if w.excess = w.excess || w.length >= 0 && w.written+int64(n) > w.length; w.excess {
		return http.ErrContentLength
	}
	w.written += int64(n)
	return nil
}

// take returns the bytes held back, which must be sent now.
func (w *responseWriter) take() []byte {
	b := w.body[:w.held]
	w.held = 0
	return b
}

func (w *responseWriter) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *responseWriter) FlushError() error {
	if w.done {
		return errHandlerDone
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return w.send(w.take(), false)
}

// EnableFullDuplex is what http.ResponseController calls. HTTP/2 always is.
func (w *responseWriter) EnableFullDuplex() error { return nil }

// finish prepares the end of the answer of a handler that has returned.
func (w *responseWriter) finish() part {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.done = true
	return w.prepare(w.take(), true)
}

// release gives back what the answer needed.
func (w *responseWriter) release() {
	if s := w.snapshot; s != nil {
		clear(s.fields)
		s.fields, s.held = s.fields[:0], 0
		w.snapshot = nil
		snapshots.Put(s)
	}
}

// errShort is why a stream is reset whose handler wrote less than it declared.
var errShort = errors.New("h2: handler wrote less than declared Content-Length")

// part is a part of an answer that is to be sent: the header, unless it was sent
// before, then data, and after the last of that the trailers.
type part struct {
	data     []byte
	last     bool
	short    bool // the answer is shorter than it says
	trailers []answerField
}

// ends reports whether the stream ends with the last frame of data or, without data,
// with the header.
func (p *part) ends() bool { return p.last && len(p.trailers) == 0 && !p.short }

// send sends data, with what goes before and, if it is the last, after it.
func (w *responseWriter) send(data []byte, last bool) error {
	p := w.prepare(data, last)
	c := w.st.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return w.sendPart(p)
}

// prepare does what needs no lock.
func (w *responseWriter) prepare(data []byte, last bool) part {
	p := part{data: data, last: last}
	if last && !w.head {
		p.trailers = w.trailerFields()
	}
	if !w.sent {
		w.complete(data, last)
	}
	if w.noBody {
		p.data, p.last = nil, last || w.head
	}
	p.short = p.last && !w.noBody && w.length >= 0 && w.written < w.length
	return p
}

func (w *responseWriter) sendPart(p part) error {
	st := w.st
	c := st.c
	if err := c.waitRoom(st); err != nil {
		if w.sent && w.head {
			return nil // the answer ended with the header
		}
		return err
	}
	if !w.sent {
		w.sent = true
		if w.goAway {
			c.drain()
		}
		c.appendBlock(st.id, w.status, w.fields, w.said, p.ends() && len(p.data) == 0)
	} else if p.ends() && len(p.data) == 0 {
		c.room(frameHeader)
		c.out = appendFrame(c.out, frameData, flagEndStream, st.id, 0)
	}
	if err := c.sendData(st, &p); err != nil {
		return err
	}
	switch {
	case p.short:
		c.log.Debug("answer refused", "client", c.remote, "error", errShort)
		c.reset(st.id, st, codeInternal, errShort.Error())
	case p.last:
		if len(p.trailers) > 0 {
			c.appendBlock(st.id, 0, p.trailers, -1, true)
		}
		c.endSend(st)
	}
	if !w.done { // otherwise handlerDone writes
		c.kick()
	}
	return nil
}

// sendData sends the data of p as windows and output allow.
func (c *Conn) sendData(st *stream, p *part) error {
	for data := p.data; len(data) > 0; {
		n, err := c.reserve(st, len(data))
		if err != nil {
			return err
		}
		var flags uint8
		if n == len(data) {
			c.earned += earnedWrite // once, however many pieces a trickle of window updates makes of it
			if p.ends() {
				flags = flagEndStream
			}
		}
		c.room(frameHeader + n)
		c.out = append(appendFrame(c.out, frameData, flags, st.id, n), data[:n]...)
		data = data[n:]
		c.earned += int64(n / earnedPer)
		c.nextTurn()
		if !p.last || len(data) > 0 {
			c.kick()
		}
	}
	return nil
}

// complete adds to the snapshot what depends on the beginning of the body.
func (w *responseWriter) complete(p []byte, last bool) {
	allowed := wire.BodyAllowed(w.status)
	if !w.typed && allowed && len(p) > 0 {
		w.fields = append(w.fields, answerField{wireNameOf("Content-Type"), http.DetectContentType(p)})
	}
	switch {
	case w.length >= 0:
		w.said = w.length
	case last && allowed && (len(p) > 0 || !w.head):
		w.said = int64(len(p))
	}
	if !w.dated {
		w.fields = append(w.fields, answerField{name: wireNameOf("Date")}) // appendBlock fills it in
	}
}

// trailerFields returns the trailers that the handler has set, in the order of their
// names.
func (w *responseWriter) trailerFields() []answerField {
	var fields []answerField
	for _, name := range w.trailers {
		fields = appendFields(fields, name, w.header[name])
	}
	for name, values := range w.header {
		if name, ok := strings.CutPrefix(name, http.TrailerPrefix); ok && httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(name)) {
			fields = appendFields(fields, name, values)
		}
	}
	slices.SortStableFunc(fields, func(a, b answerField) int { return strings.Compare(a.name.name, b.name.name) })
	return fields
}

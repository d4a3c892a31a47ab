package server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"detour/engine/wire"
)

// commit decides how the body is framed, and completes the head. more is what follows
// the part of the body that was kept back; it is only looked at. The rules are
// net/http's.
func (w *response) commit(more []byte) {
	w.committed = true
	f := &w.frozen
	first := (*w.out)[w.bodyAt:]
	if len(first) == 0 {
		first = more
	}
	allowed := wire.BodyAllowed(w.status)
	var add added
	if w.done && allowed && !f.announces && f.codingValue == "" && f.length == (span{}) && (!w.options.head || len(first) > 0) {
		w.length = int64(len(first))
		add.length = true
	}
	if w.persists(allowed) {
		add.connection = "keep-alive"
	}
	if !w.closing && !w.duplex && w.body != nil && !w.readRest() {
		w.closing, w.limitHit = true, true
		w.remove(&f.connection)
		f.connectionValue = ""
	}
	switch {
	case !allowed:
		w.remove(&f.length)
		if w.status == http.StatusNotModified {
			w.remove(&f.contentType)
		}
	case !f.hasEncoding && !f.hasType && f.codingValue == "" && len(first) > 0:
		add.contentType = http.DetectContentType(first)
	}
	w.frame(allowed)
	if w.closing && !f.switches && (w.conn.server.stopping.Load() || !hasToken([]string{f.connectionValue}, "close")) {
		w.remove(&f.connection)
		if add.connection = "close"; w.options.old {
			add.connection = ""
		}
	}
	w.complete(add)
}

// persists decides whether the connection can be kept, as far as the heads say, and
// reports whether an HTTP/1.0 client must be told that it is.
func (w *response) persists(allowed bool) (tell bool) {
	f, o := &w.frozen, w.options
	if o.keep && (o.head || w.length >= 0 || !allowed) {
		tell = f.connection == (span{})
	} else if o.old || o.close {
		w.closing = true
	}
	if f.connectionValue == "close" || w.conn.server.stopping.Load() {
		w.closing = true
	}
	if w.body != nil && w.body.expect != nil && !w.body.eof.Load() {
		// The client may send its body now, or its next request, and nobody can
		// tell which.
		w.closing = true
	}
	return tell
}

// readRest discards what is left of the request's body, for clients that send all of
// it before they read; false means that it is too much for that.
func (w *response) readRest() bool {
	b := w.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		w.closing = w.closing || !b.eof.Load()
		return true
	case b.left >= maxDrain:
		return false
	}
	if err := b.drain(); err != nil {
		w.closing = true // what remains must not be read as a request
		return true
	}
	b.closed = b.eof.Load()
	return b.eof.Load()
}

// frame decides what marks the end of the body.
func (w *response) frame(allowed bool) {
	f := &w.frozen
	coding := f.codingValue
	w.remove(&f.coding)
	if w.length >= 0 && coding != "" && coding != "identity" {
		w.conn.server.ErrorLog.Debug("answer with both Transfer-Encoding and Content-Length", "uri", w.request.RequestURI)
		w.remove(&f.length)
		w.length = -1
	}
	switch {
	case w.options.head || !allowed || w.length >= 0:
	case w.options.old || coding == "identity":
		w.closing, w.conn.delimited = true, true
	default:
		w.chunking = true
		w.remove(&f.length)
	}
}

// remove takes a line out of the frozen head.
func (w *response) remove(s *span) {
	n := s.to - s.from
	*w.out = w.takeBack(*w.out, s)
	w.bodyAt -= n
}

// added is what the framing adds to the head.
type added struct {
	length      bool
	contentType string
	connection  string
}

// complete writes the rest of the head into the gap, and moves the part of the body
// that was kept back up to it.
func (w *response) complete(add added) {
	var room [gap]byte
	lines := room[:0]
	if !w.frozen.hasDate {
		lines = append(lines, "Date: "...)
		lines = append(lines, w.conn.server.clock.date(time.Now())...)
		lines = append(lines, "\r\n"...)
	}
	if add.length {
		lines = append(lines, "Content-Length: "...)
		lines = strconv.AppendInt(lines, w.length, 10)
		lines = append(lines, "\r\n"...)
	}
	if add.contentType != "" {
		lines = append(lines, "Content-Type: "...)
		lines = append(lines, add.contentType...)
		lines = append(lines, "\r\n"...)
	}
	if add.connection != "" {
		lines = append(lines, "Connection: "...)
		lines = append(lines, add.connection...)
		lines = append(lines, "\r\n"...)
	}
	if w.chunking {
		lines = append(lines, "Transfer-Encoding: chunked\r\n"...)
	}
	lines = append(lines, "\r\n"...)

	out := *w.out
	body := out[w.bodyAt:]
	if w.options.head {
		body = nil
	}
	out = append(out[:w.bodyAt-gap], lines...)
	if w.chunking && len(body) > 0 {
		w.chunk = len(out)
		out = out[:len(out)+chunkLine]
	}
	*w.out = append(out, body...) // it moves to the left, as gap is larger than lines and chunkLine
}

// chunkLine is room for the line of a chunk of less than gather bytes: three
// digits and CRLF.
const chunkLine = 5

// takeChunk takes p, a part of a chunked body.
func (w *response) takeChunk(p []byte) error {
	out := w.outgoing()
	w.oweEnd()
	if len(*out)+chunkLine+len(p)+2 <= gather {
		if w.chunk < 0 {
			w.chunk = len(*out)
			*out = append(*out, "....."...)
		}
		*out = append(*out, p...)
		return nil
	}
	w.endChunk()
	*out = strconv.AppendInt(*out, int64(len(p)), 16)
	*out = append(*out, "\r\n"...)
	w.owes = true
	return w.send(p, 0)
}

// oweEnd ends a chunk whose content has been sent already.
func (w *response) oweEnd() {
	if w.owes {
		w.owes = false
		out := w.outgoing()
		*out = append(*out, "\r\n"...)
	}
}

// endChunk ends the open chunk, whose length is now known.
func (w *response) endChunk() {
	w.oweEnd()
	if w.chunk < 0 {
		return
	}
	out := *w.out
	content := out[w.chunk+chunkLine:]
	out = strconv.AppendInt(out[:w.chunk], int64(len(content)), 16)
	out = append(out, "\r\n"...)
	out = append(out, content...) // it moves to the left, or stays where it is
	*w.out = append(out, "\r\n"...)
	w.chunk = -1
}

// finish ends the answer when the handler has returned, and says what becomes of the
// connection.
func (w *response) finish() fate {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	w.done = true
	if !w.committed {
		w.commit(nil)
	}
	if w.chunking {
		w.endChunk()
		out := w.outgoing()
		*out = append(*out, "0\r\n"...)
		*out = w.appendTrailers(*out)
		*out = append(*out, "\r\n"...)
	}
	sent := w.sendRest()
	whole := w.body.finish(!w.closing && sent)
	if w.request.MultipartForm != nil {
		_ = w.request.MultipartForm.RemoveAll()
	}
	short := !w.options.head && w.length >= 0 && wire.BodyAllowed(w.status) && w.length != w.written
	switch {
	case !whole || w.limitHit || w.closing && w.conn.in.len() > 0:
		return unread
	case w.closing || short || !sent:
		return over
	}
	return next
}

// sendRest sends what is left of the answer, and reports whether all of the answer
// was sent: after a write that failed, every other fails too.
func (w *response) sendRest() bool {
	if w.out == nil {
		return !w.conn.out.broken()
	}
	return w.send(nil, 0) == nil
}

// breakOff sends what is left of an answer whose handler gave up, unless it would
// look whole. A client that gets not one byte may believe that its request met a
// connection that was just being closed, and send it again, whatever its effect.
func (w *response) breakOff() {
	begun := w.committed || w.length >= 0 // otherwise its framing is not decided
	whole := w.options.head || !wire.BodyAllowed(w.status) || w.length >= 0 && w.written >= w.length
	if w.out == nil || !begun || whole {
		return
	}
	w.closing = true
	_ = w.flush() // the connection ends anyway
}

func (w *response) appendTrailers(b []byte) []byte {
	if !w.frozen.announces && !w.hasLateTrailers() {
		return b
	}
	t := make(http.Header)
	for key, values := range w.header {
		if name, ok := strings.CutPrefix(key, http.TrailerPrefix); ok {
			t[name] = values
		}
	}
	for _, name := range w.trailers {
		t[name] = append(t[name], w.header[name]...)
	}
	keys := make([]string, 0, len(t))
	for key := range t {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		for _, v := range t[key] {
			b = appendField(b, key, v)
		}
	}
	return b
}

// hasLateTrailers reports whether there are trailers that nothing announced.
func (w *response) hasLateTrailers() bool {
	for key := range w.header {
		if strings.HasPrefix(key, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

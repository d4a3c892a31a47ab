package proxy

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"time"
)

const (
	// compressMinimum is the shortest body worth compressing: below it the
	// coding's own overhead and the second packet it might save do not pay.
	compressMinimum = 512
	// holdLimit is the longest body whose compressed form is held back until it
	// is whole, so that it leaves with a Content-Length. Beyond it the memory
	// and the visitor's wait weigh more.
	holdLimit = 256 << 10
	// holdTime is how long it is held back while the body trickles in: shorter
	// than a visitor notices, longer than a page takes from a near upstream.
	holdTime = 100 * time.Millisecond
)

// compressMode is what a compressWriter has decided so far.
type compressMode uint8

const (
	undecided compressMode = iota // no WriteHeader yet
	waiting                       // compressible, but the body may turn out short
	encoding                      // through the encoder
	plain                         // untouched
	finished                      // the encoded body is complete
)

// compressWriter sends a response in the coding that its client prefers. It decides
// when the header is written or, for a body of unknown length, as soon as
// compressMinimum bytes are there or somebody flushes. A flush goes through the encoder:
// what was written before reaches the client at once.
//
// If a compressed page holds both a secret and text that an attacker chooses, its
// length may reveal the secret (BREACH). As with other servers the remedy is up to the
// application: "Cache-Control: no-transform" keeps a response as it is.
type compressWriter struct {
	http.ResponseWriter
	weights     codingWeights
	ifNoneMatch []string
	bodiless    bool // HEAD: header of the GET, no body
	tunnel      bool // CONNECT: not a representation

	mode    compressMode
	status  int
	length  int64         // of the body as the handler declared it; -1 = unknown
	taken   int64         // bytes of the body taken from the handler
	short   []byte        // the body so far while waiting
	coding  coding        // while encoding
	enc     encoder       // while encoding
	dirty   bool          // enc holds bytes that were not flushed
	held    *bytes.Buffer // encoder's output kept back for its length; nil = streamed
	since   time.Time     // when held began
	headers bool          // the header went to the ResponseWriter

	budget  *encoderBudget // nil = no limit
	claimed bool           // budget was taken from
}

// begin wraps w for the answer to r, which must still carry the client's own
// Accept-Encoding and If-None-Match. budget bounds how many answers may be compressed
// at the same time; release gives back what c has taken of it.
//
// At the end of the body Close must be called. If the upstream has broken off it must
// not be, so that the client sees a broken stream.
func (c *compressWriter) begin(w http.ResponseWriter, r *http.Request, budget *encoderBudget) {
	*c = compressWriter{
		ResponseWriter: w,
		budget:         budget,
		weights:        readCodings(r.Header["Accept-Encoding"]),
		ifNoneMatch:    r.Header["If-None-Match"],
		bodiless:       r.Method == http.MethodHead,
		tunnel:         r.Method == http.MethodConnect,
		length:         -1,
	}
	if hasToken(r.Header["Cache-Control"], "no-transform") {
		c.weights = codingWeights{identity: certain}
	}
}

// Unwrap serves http.ResponseController.
func (c *compressWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader decides what becomes of the body. 1xx answers pass.
func (c *compressWriter) WriteHeader(status int) {
	if status < 200 && status != http.StatusSwitchingProtocols {
		c.ResponseWriter.WriteHeader(status)
		return
	}
	if c.mode != undecided {
		return
	}
	c.status = status
	c.mode = plain
	h := c.Header()
	switch {
	case status == http.StatusNotModified:
		c.notModified(h)
	case !c.tunnel && compressible(h):
		addVary(h, "Accept-Encoding")
		if status != http.StatusPartialContent && h["Content-Range"] == nil {
			c.choose(h)
		}
	}
	if c.mode == plain {
		c.sendHeader()
	}
}

// choose picks the mode for a compressible response.
func (c *compressWriter) choose(h http.Header) {
	c.coding = c.weights.best()
	if c.coding == identity {
		return
	}
	if v := h.Get("Content-Length"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return // the server below refuses it
		}
		c.length = n
	}
	switch {
	case c.length >= 0 && c.length < c.minimum():
		// stays as it is
	case c.bodiless:
		c.setCoding(h)
	case !c.claim():
		// stays as it is, too
	case c.length < 0:
		c.mode = waiting
	default:
		c.start()
	}
}

// claim reports whether the body may be compressed.
func (c *compressWriter) claim() bool {
	c.claimed = c.budget != nil && c.budget.take()
	return c.claimed || c.budget == nil
}

// release gives back what c has taken of its budget. It must be called when the answer
// is over, however it ended.
func (c *compressWriter) release() {
	if c.claimed {
		c.claimed = false
		c.budget.giveBack()
	}
}

// minimum is the length from which a body is compressed.
func (c *compressWriter) minimum() int64 {
	if !c.weights.accepts(identity) {
		return 1
	}
	return compressMinimum
}

// setCoding turns the header of the identity answer into that of the encoded.
func (c *compressWriter) setCoding(h http.Header) {
	h["Content-Encoding"] = []string{c.coding.String()}
	delete(h, "Accept-Ranges") // ranges are of the identity form
	delete(h, "Content-Length")
	if c.bodiless {
		h["Content-Length"] = nil // quic-go would add the 0 of the missing body
	}
	if tag := h.Get("Etag"); tag != "" {
		h["Etag"] = []string{addETagSuffix(tag, c.coding)}
	}
}

// start begins the encoded body.
func (c *compressWriter) start() {
	c.mode = encoding
	h := c.Header()
	c.setCoding(h)
	// Trailers need the header to be out before they are set.
	if c.length >= 0 && c.length <= holdLimit && h["Trailer"] == nil {
		c.held, c.since = takeBuffer(), time.Now()
	} else {
		c.sendHeader()
	}
	c.enc = takeEncoder(c.coding, (*encoderOutput)(c))
}

func (c *compressWriter) sendHeader() {
	if !c.headers {
		c.headers = true
		c.ResponseWriter.WriteHeader(c.status)
	}
}

// unsent reports whether all of the answer is still held back, so that another
// one can take its place.
func (c *compressWriter) unsent() bool { return !c.headers }

// encoderOutput is the compressWriter as its encoder sees it.
type encoderOutput compressWriter

func (o *encoderOutput) Write(p []byte) (int, error) {
	if o.held != nil {
		return o.held.Write(p)
	}
	return o.ResponseWriter.Write(p)
}

// Write takes the next bytes of the body.
func (c *compressWriter) Write(p []byte) (int, error) {
	if c.mode == undecided {
		c.WriteHeader(http.StatusOK)
	}
	switch c.mode {
	case waiting:
		if int64(len(c.short)+len(p)) < c.minimum() {
			c.short = append(c.short, p...)
			return len(p), nil
		}
		if err := c.startWaiting(); err != nil {
			return 0, err
		}
		return c.encode(p)
	case encoding:
		return c.encode(p)
	case finished:
		if len(p) > 0 {
			return 0, http.ErrContentLength
		}
		return 0, nil
	}
	return c.ResponseWriter.Write(p)
}

// startWaiting begins the encoded body with the bytes that were waiting.
func (c *compressWriter) startWaiting() error {
	c.start()
	short := c.short
	c.short = nil
	_, err := c.encode(short)
	return err
}

func (c *compressWriter) encode(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.length >= 0 && c.taken+int64(len(p)) > c.length {
		return 0, http.ErrContentLength
	}
	n, err := c.enc.Write(p)
	c.taken += int64(n)
	c.dirty = true
	switch {
	case err != nil:
	case c.held != nil && c.taken == c.length:
		err = c.finish() // whole: do not wait for Close, or for a flush that would split it
	case c.held != nil && time.Since(c.since) > holdTime:
		err = c.FlushError()
	}
	return n, err
}

// FlushError sends what was written so far to the client, the header first.
func (c *compressWriter) FlushError() error {
	if c.mode == undecided {
		c.WriteHeader(http.StatusOK)
	}
	if c.mode == waiting {
		if err := c.startWaiting(); err != nil {
			return err
		}
	}
	if c.mode == encoding {
		if err := c.stream(); err != nil {
			return err
		}
		if c.dirty {
			c.dirty = false
			if err := c.enc.Flush(); err != nil {
				return err
			}
		}
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// stream sends the header, and what is held back.
func (c *compressWriter) stream() error {
	if c.held == nil {
		return nil
	}
	c.sendHeader()
	held := c.held
	c.held = nil
	defer putBuffer(held)
	_, err := c.ResponseWriter.Write(held.Bytes())
	return err
}

// Close ends the body. When the handler wrote less than it declared, the
// stream stays unfinished and Close returns io.ErrUnexpectedEOF: the caller
// must abort the connection, as net/http does for an uncompressed answer.
func (c *compressWriter) Close() error {
	switch c.mode {
	case waiting: // shorter than the minimum
		c.mode = plain
		c.sendHeader()
		if len(c.short) == 0 {
			return nil
		}
		_, err := c.ResponseWriter.Write(c.short)
		return err
	case encoding:
		if c.length >= 0 && c.taken != c.length {
			return io.ErrUnexpectedEOF
		}
		return c.finish()
	}
	return nil
}

// finish ends the encoder's stream and sends what is held.
func (c *compressWriter) finish() error {
	c.mode = finished
	if err := c.enc.Close(); err != nil {
		return err
	}
	putEncoder(c.coding, c.enc)
	c.enc = nil
	if c.held != nil {
		c.Header()["Content-Length"] = []string{strconv.Itoa(c.held.Len())}
	}
	return c.stream()
}

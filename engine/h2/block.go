package h2

import (
	"net/http"
	"time"
)

// encoderOutput returns what c.encoder appends to, with room for n bytes.
func (c *Conn) encoderOutput(n int) *[]byte {
	c.room(n)
	return &c.out
}

// appendBlock appends a header block: status 0 = trailers, length -1 = no
// Content-Length.
func (c *Conn) appendBlock(stream uint32, status int, fields []answerField, length int64, ends bool) {
	c.room(512)
	start := len(c.out)
	c.out = appendFrame(c.out, frameHeaders, 0, stream, 0)
	if status != 0 {
		c.encoder.status(status)
	}
	for i := range fields {
		f := &fields[i]
		if f.value == "" && f.name.name == "date" {
			f.value = c.dateText()
		}
		c.encoder.encode(f.name, f.value)
	}
	if length >= 0 {
		c.encoder.length(length)
	}
	c.cut(start, stream, ends)
}

// cut turns the block at c.out[start:], which begins with the header of a HEADERS
// frame, into frames that are no larger than every client takes.
func (c *Conn) cut(start int, stream uint32, ends bool) {
	var flags uint8
	if ends {
		flags = flagEndStream
	}
	length := len(c.out) - start - frameHeader
	if length <= maxFrame {
		appendFrame(c.out[:start], frameHeaders, flags|flagEndHeaders, stream, length)
		return
	}
	rest := append([]byte(nil), c.out[start+frameHeader+maxFrame:]...)
	c.out = c.out[:start+frameHeader+maxFrame]
	appendFrame(c.out[:start], frameHeaders, flags, stream, maxFrame)
	for len(rest) > 0 {
		n := min(len(rest), maxFrame)
		flags = 0
		if n == len(rest) {
			flags = flagEndHeaders
		}
		c.room(frameHeader + n)
		c.out = append(appendFrame(c.out, frameContinuation, flags, stream, n), rest[:n]...)
		rest = rest[n:]
	}
}

// dateText is the Date of an answer.
func (c *Conn) dateText() string {
	if now := c.now(); !now.Before(c.dateUntil) {
		t := time.Now()
		c.date = t.UTC().Format(http.TimeFormat)
		c.dateUntil = now.Add(time.Second - time.Duration(t.Nanosecond()))
	}
	return c.date
}

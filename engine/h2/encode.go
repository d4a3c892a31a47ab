package h2

import (
	"net/http"
	"strconv"
	"time"

	"golang.org/x/net/http2/hpack"
)

// appendBlock appends a header block: status 0 = trailers.
func (c *Conn) appendBlock(stream uint32, status int, fields []hpack.HeaderField, ends bool) {
	c.room(512)
	start := len(c.out)
	c.out = appendFrame(c.out, frameHeaders, 0, stream, 0)
	if status != 0 {
		c.encode(hpack.HeaderField{Name: ":status", Value: statusText(status)})
	}
	for _, f := range fields {
		if f.Name == "date" && f.Value == "" {
			f.Value = c.now()
		}
		f.Sensitive = !worthIndexing(f.Name)
		c.encode(f)
	}
	c.cut(start, stream, ends)
}

func (c *Conn) encode(f hpack.HeaderField) {
	_ = c.encoder.WriteField(f) // the writer is outWriter, which takes everything
}

// cut makes frames that the client takes of the block that begins at start with
// the header of a HEADERS frame.
func (c *Conn) cut(start int, stream uint32, ends bool) {
	limit := min(c.peerMaxFrame, maxFrame)
	var flags uint8
	if ends {
		flags = flagEndStream
	}
	length := len(c.out) - start - frameHeader
	if length <= limit {
		appendFrame(c.out[:start], frameHeaders, flags|flagEndHeaders, stream, length)
		return
	}
	rest := append([]byte(nil), c.out[start+frameHeader+limit:]...)
	c.out = c.out[:start+frameHeader+limit]
	appendFrame(c.out[:start], frameHeaders, flags, stream, limit)
	for len(rest) > 0 {
		n := min(len(rest), limit)
		flags = 0
		if n == len(rest) {
			flags = flagEndHeaders
		}
		c.room(frameHeader + n)
		c.out = append(appendFrame(c.out, frameContinuation, flags, stream, n), rest[:n]...)
		rest = rest[n:]
	}
}

// worthIndexing reports whether a field's value is likely to come again on the
// same connection. Others would push those out of the client's table that do.
func worthIndexing(name string) bool {
	switch name {
	case "content-length", "etag", "last-modified", "location", "set-cookie", "x-request-id", "age", "content-range",
		"expires", "content-disposition", "link", "cf-ray", "server-timing":
		return false
	}
	return true
}

// now is the Date of an answer.
func (c *Conn) now() string {
	if t := time.Now(); !t.Before(c.dateUntil) {
		c.date = t.UTC().Format(http.TimeFormat)
		c.dateUntil = t.Truncate(time.Second).Add(time.Second)
	}
	return c.date
}

func statusText(status int) string {
	switch status {
	case http.StatusOK:
		return "200"
	case http.StatusFound:
		return "302"
	case http.StatusNotModified:
		return "304"
	case http.StatusNotFound:
		return "404"
	}
	return strconv.Itoa(status)
}

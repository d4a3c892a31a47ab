package server

import (
	"bufio"
	"io"
	"net"
	"time"
)

// surrender gives the connection to the handler.
func (c *conn) surrender() (net.Conn, *bufio.ReadWriter, error) {
	c.callOff()
	c.mu.Lock()
	has, _ := c.watch.result()
	c.mu.Unlock()
	c.server.ended(c)
	_ = c.rwc.SetDeadline(time.Time{})
	c.out.renew(0)
	if has {
		c.in.put(c.watch.one[0])
	}
	early := append([]byte(nil), c.in.bytes()...)
	c.in.drop()
	src := &prefixed{early: early, rest: c.rwc}
	br := bufio.NewReaderSize(src, max(4<<10, len(early)))
	_, _ = br.Peek(len(early)) // so that they count as buffered
	return c.rwc, bufio.NewReadWriter(br, bufio.NewWriter(c.rwc)), nil
}

// prefixed reads early, then rest.
type prefixed struct {
	early []byte
	rest  io.Reader
}

func (r *prefixed) Read(p []byte) (int, error) {
	if len(r.early) == 0 {
		return r.rest.Read(p)
	}
	n := copy(p, r.early)
	if r.early = r.early[n:]; len(r.early) == 0 {
		r.early = nil
	}
	return n, nil
}

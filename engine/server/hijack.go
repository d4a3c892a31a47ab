package server

import (
	"bufio"
	"bytes"
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
	br := bufio.NewReaderSize(io.MultiReader(bytes.NewReader(early), c.rwc), max(4<<10, len(early)))
	_, _ = br.Peek(len(early)) // so that Buffered counts them
	return c.rwc, bufio.NewReadWriter(br, bufio.NewWriter(c.rwc)), nil
}

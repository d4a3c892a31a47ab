//go:build unix

package client

import (
	"io"
	"os"
	"syscall"
	"time"

	"detour/engine/socket"
)

const canProbe = true

// onReady is what the poller calls: before it waits, and when there is something
// to read. It returns true when c.n and c.err hold a result.
//
// First it looks whether the connection is sound: a read must find nothing. An
// end, or bytes that nobody asked for, would be taken for the answer to x. The
// poller was armed before that read, so whatever arrives after it ends the wait:
// the request is sent right here, and the read that would find nothing, as the
// upstream has had no time to answer, is left out.
func (c *conn) onReady(fd uintptr) bool {
	if !c.x.sent {
		n, err := socket.Read(fd, c.probe[:])
		if err != syscall.EAGAIN {
			c.n, c.err = 0, errStale
			if !c.reused {
				c.err = firstWords(n, err)
			}
			return true
		}
		c.n, c.err = 0, c.x.send()
		return c.err != nil
	}
	n, err := socket.Read(fd, c.x.buf.free())
	if err == syscall.EAGAIN {
		return false
	}
	c.n, c.err = n, readError(n, err)
	return true
}

// firstWords is what the end of a new connection, or bytes on it, mean before a
// request is sent.
func firstWords(n int, err syscall.Errno) error {
	if err := readError(n, err); err != nil {
		return err
	}
	return errUnasked
}

// readError is what a read of n bytes that did not have to wait means.
func readError(n int, err syscall.Errno) error {
	switch {
	case err != 0:
		return os.NewSyscallError("read", err)
	case n == 0:
		return io.EOF
	}
	return nil
}

// sound reports whether the connection, which nobody uses, may be used again.
func (c *conn) sound() bool {
	c.setDeadline(time.Time{})
	silent := false
	err := c.raw.Read(func(fd uintptr) bool {
		_, err := socket.Read(fd, c.probe[:])
		silent = err == syscall.EAGAIN
		return true
	})
	return err == nil && silent
}

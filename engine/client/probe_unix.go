//go:build unix

package client

import (
	"io"
	"os"
	"syscall"
	"time"
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
		n, err := read(fd, c.probe[:])
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
	c.n, c.err = read(fd, c.x.buf.free())
	switch {
	case c.err == syscall.EAGAIN:
		return false
	case c.err != nil:
		c.n, c.err = 0, os.NewSyscallError("read", c.err)
	case c.n == 0:
		c.err = io.EOF
	}
	return true
}

// firstWords is what the end of a new connection, or bytes on it, mean before a
// request is sent.
func firstWords(n int, err error) error {
	switch {
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return io.EOF
	}
	return errUnasked
}

// sound reports whether the connection, which nobody uses, may be used again.
func (c *conn) sound() bool {
	c.setDeadline(time.Time{})
	silent := false
	err := c.raw.Read(func(fd uintptr) bool {
		_, err := read(fd, c.probe[:])
		silent = err == syscall.EAGAIN
		return true
	})
	return err == nil && silent
}

func read(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		if err != syscall.EINTR {
			return n, err
		}
	}
}

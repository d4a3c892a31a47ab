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

// onReady is called by the poller, before it waits and when there is something to read.
// It returns true when c.n and c.err hold a result.
//
// At first it checks that the connection is sound: a read must find nothing. The end of
// the connection, or bytes that nobody asked for, would be taken for the answer to x.
// The poller was armed before that read, so whatever arrives later ends the wait. So the
// request can be sent right here, without the usual read after it, which would find
// nothing, as the upstream has had no time to answer.
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
		c.n, c.err = 0, c.x.send(fd)
		return c.err != nil
	}
	n, err := socket.Read(fd, c.x.buf.free())
	if err == syscall.EAGAIN {
		return false
	}
	c.n, c.err = n, readError(n, err)
	return true
}

// write writes p. From within onReady it goes to the socket itself, which nearly always
// takes all of it: through nc the way there is twice as deep, which made the stack of
// every connection's goroutine grow, for as long as it lives.
func (c *conn) write(fd uintptr, p []byte) error {
	if c.direct && fd != noSocket {
		n, err := socket.Write(fd, p)
		switch {
		case n == len(p):
			return nil
		case err != 0 && err != syscall.EAGAIN:
			return os.NewSyscallError("write", err)
		}
		p = p[n:]
	}
	_, err := c.nc.Write(p)
	return err
}

// firstWords is the error for a new connection that has ended, or has brought bytes,
// before a request was sent.
func firstWords(n int, err syscall.Errno) error {
	if err := readError(n, err); err != nil {
		return err
	}
	return errUnasked
}

// readError is the error of a read that did not wait, and brought n bytes.
func readError(n int, err syscall.Errno) error {
	switch {
	case err != 0:
		return os.NewSyscallError("read", err)
	case n == 0:
		return io.EOF
	}
	return nil
}

// sound reports whether the connection, which is not in use, may be used again.
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

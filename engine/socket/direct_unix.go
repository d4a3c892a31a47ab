//go:build unix

package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Direct returns nc with a Read and a Write that tell the scheduler nothing.
// They behave as nc's own, also in their errors, deadlines, and in that any
// number of goroutines may call them. Connections that are neither *net.TCPConn
// nor *net.UnixConn are returned as they are: what a type that embeds one of
// these does in its own Read is not ours to pass over.
func Direct(nc net.Conn) net.Conn {
	var s stream
	switch nc := nc.(type) {
	case *net.TCPConn:
		s = nc
	case *net.UnixConn:
		s = nc
	default:
		return nc
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nc
	}
	c := &conn{stream: s, raw: raw}
	c.in.try, c.out.try = c.tryRead, c.tryWrite
	return c
}

// IsDirect reports whether nc is what Direct makes of a connection, so that its Write
// does no more than write to the socket.
func IsDirect(nc net.Conn) bool {
	_, ok := nc.(*conn)
	return ok
}

// stream is what both have.
type stream interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// conn is a stream whose socket is read and written without the scheduler.
type conn struct {
	stream
	raw     syscall.RawConn
	in, out half
}

// half is one direction of a conn, and the call under way in it.
type half struct {
	mu  sync.Mutex            // held by the call, also while it waits
	try func(fd uintptr) bool // for raw: false = nothing can be done now
	p   []byte                // what is to be filled, or written
	n   int                   // bytes done
	err syscall.Errno         // 0 = none
}

func (c *conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.in.run(p, c.raw.Read)
	switch {
	case err != nil:
		return n, c.failed("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

func (c *conn) tryRead(fd uintptr) bool {
	c.in.n, c.in.err = Read(fd, c.in.p)
	return c.in.err != syscall.EAGAIN
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.run(p, c.raw.Write)
	if err != nil {
		return n, c.failed("write", err)
	}
	return n, nil
}

func (c *conn) tryWrite(fd uintptr) bool {
	for c.out.n < len(c.out.p) {
		n, err := Write(fd, c.out.p[c.out.n:])
		if c.out.err = err; err != 0 {
			return err != syscall.EAGAIN
		}
		c.out.n += n
	}
	return true
}

// run does with p what try does, whenever the poller says that it can.
func (h *half) run(p []byte, poll func(func(fd uintptr) bool) error) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.p, h.n, h.err = p, 0, 0
	err := poll(h.try)
	h.p = nil
	if err == nil && h.err != 0 {
		err = h.err
	}
	return h.n, err
}

// failed is err as package net would return it from op.
func (c *conn) failed(op string, err error) error {
	if polling, ok := errors.AsType[*net.OpError](err); ok { // a deadline, or the connection was closed
		err = polling.Err
	} else {
		err = os.NewSyscallError(op, err)
	}
	return &net.OpError{Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// SetLinger is *net.TCPConn's; errors.ErrUnsupported where there is none.
func (c *conn) SetLinger(sec int) error {
	if tcp, ok := c.stream.(*net.TCPConn); ok {
		return tcp.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

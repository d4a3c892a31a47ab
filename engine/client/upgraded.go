package client

import (
	"net"
	"time"

	"detour/engine/socket"
	"detour/engine/wire"
)

// switchProtocols makes the connection the answer's body. From here on it is
// the caller's, whatever becomes of the request's context.
func (x *exchange) switchProtocols(h wire.Response, block []byte) error {
	if x.req.Header["Upgrade"] == nil || x.body != nil && !x.body.done() {
		return errUnasked
	}
	x.fillResponse(h, block)
	if !x.stop() {
		return net.ErrClosed
	}
	if !x.c.deadline.IsZero() {
		x.c.setDeadline(time.Time{})
	}
	early := append([]byte(nil), x.buf.rest()...)
	x.buf.release()
	x.buf = nil
	x.res.Body = &upgraded{c: x.c, early: early}
	return nil
}

// upgraded is a connection that another protocol is spoken on. Reading, writing
// and closing may happen at once.
type upgraded struct {
	c     *conn
	early []byte // what came with the 101
}

func (u *upgraded) Read(p []byte) (int, error) {
	if len(u.early) > 0 {
		n := copy(p, u.early)
		u.early = u.early[n:]
		return n, nil
	}
	return u.c.nc.Read(p)
}

func (u *upgraded) Write(p []byte) (int, error) { return u.c.nc.Write(p) }

func (u *upgraded) Close() error { return u.c.nc.Close() }

// CloseWrite passes a half-close on; errors.ErrUnsupported if the connection
// cannot.
func (u *upgraded) CloseWrite() error { return socket.CloseWrite(u.c.nc) }

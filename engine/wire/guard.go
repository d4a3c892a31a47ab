package wire

import "net"

// Guard is a net.Conn that lets only unambiguous HTTP/1 through.
type Guard struct {
	net.Conn
}

// NewGuard guards what is read from c.
func NewGuard(c net.Conn, headLimit int) *Guard { return &Guard{Conn: c} }

// Guard returns g itself, also through types that embed it.
func (g *Guard) Guard() *Guard { return g }

// PassThrough ends the guarding.
func (g *Guard) PassThrough() {}

package gateway

import (
	"errors"
	"net"
	"syscall"

	"github.com/quic-go/quic-go"
)

// lossySocket has a packet that the system cannot send be lost, as TCP has it: an
// interface is down for a moment or has lost its address, a firewall is loaded
// anew. It is sent again; quic-go would end the connection and, as there is no way
// to the client, let it wait for nothing (quic-go/quic-go#2809).
type lossySocket struct{ udpSocket }

// udpSocket is what quic-go wants of a *net.UDPConn for all it can do.
type udpSocket interface {
	quic.OOBCapablePacketConn
	net.Conn
	SetWriteBuffer(bytes int) error
}

// lossy is c as a lossySocket, if it can be one.
func lossy(c net.PacketConn) net.PacketConn {
	if s, ok := c.(udpSocket); ok {
		return lossySocket{s}
	}
	return c
}

func (s lossySocket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	n, oobn, err = s.udpSocket.WriteMsgUDP(b, oob, addr)
	if errors.Is(err, syscall.EPERM) { // Linux may say that of a first packet without a reason (go.dev/issue/63322)
		n, oobn, err = s.udpSocket.WriteMsgUDP(b, oob, addr)
	}
	if err != nil && isLoss(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// isLoss reports whether err is the system's, and none that quic-go learns from:
// that a packet is too large for the way, or that several at once are not to be.
func isLoss(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && errno != syscall.EMSGSIZE && errno != syscall.EIO
}

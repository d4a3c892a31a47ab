package gateway

import (
	"errors"
	"net"
	"syscall"

	"github.com/quic-go/quic-go"
)

// lossySocket treats a packet that the system cannot send as lost, as TCP does: an
// interface is down for a moment or has lost its address, or a firewall is being
// reloaded. QUIC then sends it again, where quic-go would end the connection and,
// without a way to tell the client, leave it waiting (quic-go/quic-go#2809).
type lossySocket struct{ udpSocket }

// udpSocket is what quic-go needs of a *net.UDPConn to use all of its features.
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
	if errors.Is(err, syscall.EPERM) { // Linux may say so for a first packet without a reason (go.dev/issue/63322)
		n, oobn, err = s.udpSocket.WriteMsgUDP(b, oob, addr)
	}
	if err != nil && isLoss(err) {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// isLoss reports whether err is the system's, and not one that quic-go learns from:
// that a packet is too large for the path, or that it cannot send several at once.
func isLoss(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && errno != syscall.EMSGSIZE && errno != syscall.EIO
}

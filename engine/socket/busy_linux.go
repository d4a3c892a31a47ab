package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Busy reports whether the kernel holds data of nc: written but not acknowledged by
// the peer, or received but not read. It is a guess; without a socket, and on other
// systems, it is always false.
func Busy(nc net.Conn) (busy bool) {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		for _, queue := range [...]uint{unix.SIOCOUTQ, unix.SIOCINQ} {
			n, err := unix.IoctlGetInt(int(fd), queue)
			busy = busy || err == nil && n > 0
		}
	})
	return busy
}

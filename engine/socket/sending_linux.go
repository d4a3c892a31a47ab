package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Sending reports whether the kernel still has something of what was written to nc
// that the peer has not acknowledged. It is a guess, of what is no socket and of
// other systems always false.
func Sending(nc net.Conn) (sending bool) {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		sending = err == nil && n > 0
	})
	return sending
}

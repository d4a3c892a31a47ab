package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Busy reports whether the kernel has something that is on its way through nc: that
// was written and the peer has not acknowledged, or that came and was not read. It
// is a guess, of what is no socket and of other systems always false.
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

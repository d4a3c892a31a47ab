package socket

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Silence is how long nc's peer has acknowledged nothing although something that was
// sent is unacknowledged: then the machine, or the way to it, is gone. A machine that
// is there acknowledges whatever its programs do, and what it has no room for is not
// sent. It is 0 if nothing is unacknowledged, for anything but a TCP socket, and on
// other systems.
func Silence(nc net.Conn) (silence time.Duration) {
	s, ok := nc.(syscall.Conn)
	if !ok {
		return 0
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Unacked > 0 {
			silence = time.Duration(info.Last_ack_recv) * time.Millisecond
		}
	})
	return silence
}

//go:build unix

package socket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// spare is how many descriptors connections leave for everything else if the
// process may have 512 or more: the control socket, the configuration and the files
// that a reload reads, the logs of some hosts, name lookups. If it may have fewer,
// an eighth is left.
const spare = 64

// Scarce reports whether so few descriptors are left that connections must not take
// them: an operator needs them to end whatever has taken the rest. c is a new
// connection, whose descriptor was the lowest free number.
func Scarce(c syscall.RawConn) (scarce bool) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return false
	}
	most := uintptr(files.Cur - min(files.Cur/8, spare))
	_ = c.Control(func(fd uintptr) {
		if fd < most {
			return
		}
		// Its number may be from long ago: which would the next one get?
		next, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if scarce = err != nil || uintptr(next) >= most; err == nil {
			_ = unix.Close(next)
		}
	})
	return scarce
}

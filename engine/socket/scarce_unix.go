//go:build unix

package socket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// spare is how many descriptors connections leave to others, where a process may
// have 512 or more of them: to the control socket, the configuration and the files
// that a reload reads, the logs of some hosts, name lookups. Where it may have
// fewer it is an eighth.
const spare = 64

// Scarce reports whether so few descriptors are left that connections are to leave
// them to others, by which an operator can end what has taken the rest. c is a new
// connection: a descriptor is the lowest number that is free.
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
		// It may have been opened long ago: which would the next one be?
		next, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
		if scarce = err != nil || uintptr(next) >= most; err == nil {
			_ = unix.Close(next)
		}
	})
	return scarce
}

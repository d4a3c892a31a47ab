//go:build linux && !386 && !race

package socket

import (
	"syscall"
	"unsafe"
)

// Read reads from a socket, and never waits: EAGAIN says that there is nothing.
func Read(fd uintptr, p []byte) (int, syscall.Errno) { return call(syscall.SYS_RECVFROM, fd, p) }

// Write writes to a socket, and never waits: EAGAIN says that it takes nothing.
func Write(fd uintptr, p []byte) (int, syscall.Errno) { return call(syscall.SYS_SENDTO, fd, p) }

// call makes a system call of a socket's own: those for files do more.
func call(number, fd uintptr, p []byte) (int, syscall.Errno) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	for {
		n, _, err := syscall.RawSyscall6(number, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch err {
		case 0:
			return int(n), 0
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}

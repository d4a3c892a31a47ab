//go:build unix && (!linux || 386 || race)

package socket

import "syscall"

// Read reads from a non-blocking socket: EAGAIN says that there is nothing.
//
// Only Linux promises that its system calls stay as they are, on 386 sockets have
// none of their own, and the race detector has to be told of them.
func Read(fd uintptr, p []byte) (int, syscall.Errno) { return call(syscall.Read, fd, p) }

// Write writes to a non-blocking socket: EAGAIN says that it takes nothing.
func Write(fd uintptr, p []byte) (int, syscall.Errno) { return call(syscall.Write, fd, p) }

func call(do func(int, []byte) (int, error), fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, err := do(int(fd), p)
		switch err {
		case nil:
			return n, 0
		case syscall.EINTR:
		default:
			errno, _ := err.(syscall.Errno) // package syscall's errors are nothing else
			return 0, errno
		}
	}
}

//go:build unix

package server

import (
	"net"
	"syscall"
)

// left reports whether the client has closed its side of TCP, and nothing of
// what it sent is unread. A farewell to one that has gone is answered with a
// reset, and costs a twentieth of a full handshake.
func left(nc net.Conn) bool {
	tcp, ok := nc.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	n := -1
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		if n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT); err != nil {
			n = -1
		}
		return true
	})
	return err == nil && n == 0
}

//go:build !linux

package socket

import "net"

// Busy is for Linux.
func Busy(net.Conn) bool { return false }

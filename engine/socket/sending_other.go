//go:build !linux

package socket

import "net"

// Sending is for Linux.
func Sending(net.Conn) bool { return false }

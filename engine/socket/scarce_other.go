//go:build !unix

package socket

import "syscall"

// Scarce is for systems with descriptors.
func Scarce(syscall.RawConn) bool { return false }

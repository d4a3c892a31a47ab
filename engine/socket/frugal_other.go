//go:build !linux

package socket

import "syscall"

// Frugal does nothing here.
func Frugal(syscall.RawConn, int) error { return nil }

// Package socket reads and writes connections without telling Go's scheduler.
//
// Before a system call that may block, the runtime arranges for other goroutines to
// run meanwhile. A socket of package net never blocks, and in a process that has
// been idle the arrangement is expensive: it wakes the runtime's monitor thread,
// which then looks around every 20 µs until all is quiet again. At 1,000 requests a
// second, as many as any home ever sees, that was half of what a request cost
// (docs/performance.md). What the kernel does in such a call, a few µs of copying,
// keeps its thread busy either way; only when the machine is short of memory may
// the call have to wait, and other goroutines on that thread with it.
//
// This is the only package that uses package unsafe, for the address that the
// system is to write to, or read from.
package socket

import (
	"errors"
	"net"
)

// CloseWrite ends the sending side of c, as *net.TCPConn and *tls.Conn offer it;
// errors.ErrUnsupported if c cannot.
func CloseWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

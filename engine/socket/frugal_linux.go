package socket

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent is a record of TLS.
const unsent = 16 << 10

// Frugal has the kernel hold little for a TCP socket. Of what it is given to send,
// that is 16 KiB besides what is on its way, which slows nothing down; left alone,
// the kernel takes up to 4 MiB, and keeps them when the other end stops reading. Of
// what comes for it, that is window bytes, for which the kernel counts twice as
// much; left alone, up to 6 MiB.
func Frugal(c syscall.RawConn, window int) error {
	var err error
	controlErr := c.Control(func(fd uintptr) {
		err = errors.Join(
			syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent),
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, window))
	})
	return errors.Join(controlErr, err)
}

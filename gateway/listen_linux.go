package gateway

import (
	"net"
	"syscall"
)

// listenConfig sets TCP keep-alive on the listening socket, whose connections
// inherit it. The values are those that package net would set on each of them,
// with four system calls: one percent of a handshake.
var listenConfig = net.ListenConfig{
	KeepAlive: -1, // not by package net
	Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		controlErr := c.Control(func(fd uintptr) { err = setKeepAlive(int(fd)) })
		if controlErr != nil {
			return controlErr
		}
		return err
	},
}

func setKeepAlive(fd int) error {
	for _, option := range [...]struct{ level, name, value int }{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},  // seconds of silence before the first probe
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15}, // between two
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},    // without an answer
	} {
		if err := syscall.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return err
		}
	}
	return nil
}

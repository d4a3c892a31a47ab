//go:build !linux

package socket

import (
	"net"
	"time"
)

// Silence is for Linux.
func Silence(net.Conn) time.Duration { return 0 }

//go:build !unix

package socket

import "net"

// Direct returns nc: there is another poller here.
func Direct(nc net.Conn) net.Conn { return nc }

// IsDirect is for Unix.
func IsDirect(net.Conn) bool { return false }

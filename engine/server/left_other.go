//go:build !unix

package server

import "net"

func left(net.Conn) bool { return false }

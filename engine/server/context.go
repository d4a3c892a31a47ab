package server

import (
	"context"
	"net"
	"net/http"
)

// connContext is what the contexts of a connection's requests know.
type connContext struct {
	context.Context
	server *http.Server
	local  net.Addr
}

func (c *connContext) Value(key any) any {
	switch key {
	case http.ServerContextKey:
		return c.server
	case http.LocalAddrContextKey:
		return c.local
	}
	return nil
}

package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"

	"detour/engine/accept"
	"detour/engine/wire"
)

// intake is the net.Listener that net/http's server accepts from: each connection
// has finished its TLS handshake, and HTTP/1 is behind a wire.Guard. Handshakes
// run concurrently with each other and with the accept loop, which only the end of
// the listener stops.
type intake struct {
	listener net.Listener
	server   *server

	ready chan net.Conn
	ctx   context.Context // ended by Close or by the end of listener, with the cause
	stop  context.CancelCauseFunc
	work  sync.WaitGroup // the accept loop and the handshakes
}

// newIntake starts accepting. The caller must Close it, then wait.
func newIntake(l net.Listener, s *server) *intake {
	in := &intake{listener: l, server: s, ready: make(chan net.Conn)}
	in.ctx, in.stop = context.WithCancelCause(context.Background())
	in.work.Go(in.run)
	return in
}

// Accept returns the next connection that is ready for HTTP.
func (in *intake) Accept() (net.Conn, error) {
	select {
	case c := <-in.ready:
		return c, nil
	case <-in.ctx.Done():
		return nil, context.Cause(in.ctx)
	}
}

// Close stops accepting and cuts pending handshakes. It does not wait for them.
func (in *intake) Close() error {
	in.stop(net.ErrClosed)
	return in.listener.Close()
}

func (in *intake) Addr() net.Addr { return in.listener.Addr() }

// wait returns when nothing of the intake runs any more.
func (in *intake) wait() { in.work.Wait() }

func (in *intake) run() {
	in.stop(accept.Loop(in.ctx, in.listener, in.server.Limiter, in.server.Log, func(c net.Conn) {
		if in.server.TLS == nil {
			in.deliver(wire.NewGuard(c, in.server.Limits.HeaderBytes))
		} else {
			in.work.Go(func() { in.handshake(c) })
		}
	}))
}

// handshake makes c ready for HTTP, or closes it.
func (in *intake) handshake(c net.Conn) {
	in.server.idle.note(c, http.StateNew)
	secure := tls.Server(c, in.server.TLS)
	ok := accept.Handshake(in.ctx, secure, c, in.server.Limits.HandshakeTimeout, in.server.Log)
	in.server.idle.note(c, http.StateClosed) // what follows is secure's
	if !ok {
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		in.deliver(secure) // net/http wants to see a *tls.Conn to speak HTTP/2
		return
	}
	in.deliver(guardedTLS{wire.NewGuard(secure, in.server.Limits.HeaderBytes), secure})
}

func (in *intake) deliver(c net.Conn) {
	select {
	case in.ready <- c:
	case <-in.ctx.Done():
		_ = c.Close()
	}
}

// guardedTLS is a TLS connection behind a Guard. By ConnectionState net/http
// knows what to put into Request.TLS.
type guardedTLS struct {
	*wire.Guard
	secure *tls.Conn
}

func (c guardedTLS) ConnectionState() tls.ConnectionState { return c.secure.ConnectionState() }

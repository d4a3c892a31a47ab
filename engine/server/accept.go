package server

import (
	"crypto/tls"
	"net"
	"time"

	"detour/engine/accept"
	"detour/engine/h2"
)

// greet registers nc, and has a worker start it.
func (s *Server) greet(nc net.Conn) {
	c := s.newConn(nc)
	s.began(c)
	s.workers.Do((*greeting)(c))
}

// greeting is the workers.Job that starts a connection.
type greeting conn

func (g *greeting) Do() { (*conn)(g).start() }

// start does the handshake, if there is one, and begins to serve the connection.
func (c *conn) start() {
	ready := false
	defer func() {
		if !ready { // also after a runtime.Goexit in the handshake
			c.server.ended(c)
		}
	}()
	if ready = c.handshake(); !ready {
		return
	}
	c.out.renew(c.server.Limits.ProgressTimeout)
	// A handshake needs a deep stack, which an idle connection should not keep, so
	// the rest is done in a new goroutine.
	if c.tls != nil && c.tls.NegotiatedProtocol == "h2" {
		go c.runHTTP2()
	} else {
		go c.run()
	}
}

// handshake makes c ready for HTTP; false means that it failed, and c is closed.
func (c *conn) handshake() bool {
	secure, ok := c.rwc.(*tls.Conn)
	if ok {
		c.out.piece = recordBytes
	} else if c.server.TLS != nil {
		below := &batch{Conn: c.out, memory: c.server.Memory}
		secure = tls.Server(below, c.server.TLS)
		c.rwc, c.batch = secure, below
	} else {
		// A listener may have connections that wrap their TLS.
		if s, ok := c.rwc.(interface{ ConnectionState() tls.ConnectionState }); ok {
			state := s.ConnectionState()
			c.tls = &state
			c.out.piece = recordBytes
		}
		return true
	}
	if !accept.Handshake(c.server.ctx, secure, c.raw, c.server.Limits.HandshakeTimeout, c.server.ErrorLog) { // at once, if the listener has done it
		return false
	}
	state := secure.ConnectionState()
	c.tls = &state
	return true
}

// runHTTP2 serves HTTP/2 until the connection ends.
func (c *conn) runHTTP2() {
	defer c.server.ended(c)
	l := c.server.Limits
	served := h2.New(c.stream(), h2.Options{
		Handler: c.server.Handler, Workers: &c.server.workers, TLS: c.tls, Log: c.server.ErrorLog, Memory: c.server.Memory, Refused: c.server.refusals.note, Paced: l.ProgressTimeout > 0,
		Limits: h2.Limits{Streams: l.Streams, HeaderBytes: l.HeaderBytes, HeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout, ProgressTimeout: l.ProgressTimeout},
	})
	c.mu.Lock()
	c.http2 = served
	stopping := c.server.stopping.Load()
	if stopping || c.phase.Load() == gone {
		_ = c.raw.SetReadDeadline(time.Time{}) // retire's or EndIdle's, who saw no request
	}
	c.mu.Unlock()
	if stopping {
		served.Shutdown()
	}
	if err := served.Serve(c.base); err != nil {
		c.server.ErrorLog.Debug("HTTP/2 connection ended", "client", c.remote, "error", err)
	}
}

package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"detour/engine/h2"
)

// accept takes connections from l until it is closed.
func (s *Server) accept(l *listener) error {
	trouble := trouble{log: s.ErrorLog}
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			trouble.row = 0
			// TCP keep-alive is on already, by package net or by the listener:
			// 15 s idle, 15 s between probes.
			c := s.newConn(nc)
			s.began(c)
			s.greet(c)
		case s.stopping.Load() || errors.Is(err, net.ErrClosed):
			return err
		default:
			select {
			case <-time.After(trouble.pause(err)):
			case <-s.ctx.Done():
			}
		}
	}
}

// maxGreeters is how many greeters wait for the next connection, at 32 KiB of
// stack each. More arrive at once only when a crowd comes.
const maxGreeters = 16

// greet has c started by a greeter who waits, else by a new one.
func (s *Server) greet(c *conn) {
	select {
	case s.arrivals <- c:
	default:
		s.greeters.Go(func() { s.greeter(c) })
	}
}

// greeter starts connections, one after the other. A handshake needs a deep
// stack: a goroutine that had one has it already, a new one would have to
// copy its stack four times as it grows.
func (s *Server) greeter(c *conn) {
	for {
		c.start()
		if s.waiting.Add(1) > maxGreeters {
			s.waiting.Add(-1)
			return
		}
		select {
		case c = <-s.arrivals:
			s.waiting.Add(-1)
		case <-s.ctx.Done():
			return
		}
	}
}

// start does the handshake, where there is one, and has the connection served.
func (c *conn) start() {
	if !c.handshake() {
		_ = c.raw.Close()
		c.server.ended(c)
		return
	}
	c.out.renew(c.server.Limits.ProgressTimeout)
	// A handshake needs a deep stack, which an idle connection should not keep:
	// the rest has a goroutine of its own.
	if c.tls != nil && c.tls.NegotiatedProtocol == "h2" {
		go c.runHTTP2()
	} else {
		go c.run()
	}
}

// handshake makes c ready for HTTP; false says that it did not come to that.
func (c *conn) handshake() bool {
	secure, ok := c.rwc.(*tls.Conn)
	if ok {
		c.raw = secure.NetConn()
		c.out.piece = recordBytes
	} else if c.server.TLS != nil {
		below := &batch{Conn: c.out}
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
	ctx, cancel := context.WithTimeout(c.server.ctx, c.server.Limits.HandshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil { // at once, if the listener has done it
		c.handshakeFailed(err)
		return false
	}
	state := secure.ConnectionState()
	c.tls = &state
	return true
}

func (c *conn) handshakeFailed(err error) {
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && looksLikeHTTP(e.RecordHeader) {
		_ = c.raw.SetDeadline(time.Now().Add(lingerTime))
		_, _ = io.WriteString(c.raw, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks https only.\n")
		c.outlast() // or the rest of the request would have the answer reset
	}
	c.server.ErrorLog.Debug("TLS handshake ended", "client", c.raw.RemoteAddr().String(), "error", err)
}

// looksLikeHTTP reports whether a client that should have begun a handshake
// sent the start of a request instead.
func looksLikeHTTP(start [5]byte) bool {
	switch string(start[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// runHTTP2 serves HTTP/2 until the connection ends.
func (c *conn) runHTTP2() {
	defer c.server.ended(c)
	l := c.server.Limits
	served := h2.New(c.stream(), h2.Options{
		Handler: c.server.Handler, TLS: c.tls, Log: c.server.ErrorLog, Refused: c.server.refusals.note, Paced: l.ProgressTimeout > 0,
		Limits: h2.Limits{Streams: l.Streams, HeaderBytes: l.HeaderBytes, HeaderTimeout: l.HeaderTimeout, IdleTimeout: l.IdleTimeout, ProgressTimeout: l.ProgressTimeout},
	})
	c.mu.Lock()
	c.http2 = served
	c.mu.Unlock()
	if c.server.stopping.Load() {
		served.Shutdown()
	}
	if err := served.Serve(c.base); err != nil {
		c.server.ErrorLog.Debug("HTTP/2 connection ended", "client", c.remote, "error", err)
	}
}

// trouble is what an accept loop knows about failures of Accept.
type trouble struct {
	log      *slog.Logger
	row      int       // failures since the last success
	reported time.Time // when the last line was logged
	silent   int       // failures since then
}

// pause returns how long to wait after err before the next Accept, and logs at
// most one line a minute: a full descriptor table fails thousands of times.
func (t *trouble) pause(err error) time.Duration {
	if errors.Is(err, syscall.ECONNABORTED) {
		return 0 // that client went away while it waited; the next one may be there
	}
	t.row++
	t.silent++
	if now := time.Now(); now.Sub(t.reported) >= time.Minute {
		remedy := "none needed if it stays alone; accepting goes on"
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			remedy = "raise the limit of open files (LimitNOFILE= in the unit); connections are served again when others end"
		}
		t.log.Error("accepting connections", "error", err, "failures", t.silent, "remedy", remedy)
		t.reported, t.silent = now, 0
	}
	// From 5 ms, so that one hiccup is not felt, to 160 ms, so that visitors
	// are served again without noticing as soon as descriptors are free.
	return 5 * time.Millisecond << min(t.row-1, 5)
}

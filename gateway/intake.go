package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"detour/engine/wire"
)

// intake is the net.Listener that net/http's server accepts from: every
// connection it hands out has its TLS handshake behind it, and HTTP/1 stands
// behind a wire.Guard. Handshakes run beside each other and beside the accept
// loop, which nothing but the end of the listener stops.
type intake struct {
	listener net.Listener
	tls      *tls.Config // nil = plaintext
	limits   Limits
	log      *slog.Logger

	ready chan net.Conn
	ctx   context.Context // ended by Close or by the end of listener, with the cause
	stop  context.CancelCauseFunc
	work  sync.WaitGroup // the accept loop and the handshakes
}

// newIntake starts accepting. The caller must Close it, then wait.
func newIntake(l net.Listener, conf *tls.Config, limits Limits, log *slog.Logger) *intake {
	in := &intake{listener: l, tls: conf, limits: limits, log: log, ready: make(chan net.Conn)}
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
	trouble := acceptTrouble{log: in.log}
	for {
		c, err := in.listener.Accept()
		switch {
		case err == nil:
			trouble.over()
			// TCP keep-alive is on already, by package net or by the listener:
			// 15 s idle, 15 s between probes.
			if in.tls == nil {
				in.deliver(wire.NewGuard(c, in.limits.HeaderBytes))
			} else {
				in.work.Go(func() { in.handshake(c) })
			}
		case in.ctx.Err() != nil:
			return
		case errors.Is(err, net.ErrClosed):
			in.stop(err)
			return
		default:
			select {
			case <-time.After(trouble.pause(err)):
			case <-in.ctx.Done():
				return
			}
		}
	}
}

// handshake makes c ready for HTTP, or closes it.
func (in *intake) handshake(c net.Conn) {
	ctx, cancel := context.WithTimeout(in.ctx, in.limits.HandshakeTimeout)
	defer cancel()
	secure := tls.Server(c, in.tls)
	if err := secure.HandshakeContext(ctx); err != nil {
		if e, ok := errors.AsType[tls.RecordHeaderError](err); ok && e.Conn != nil && looksLikeHTTP(e.RecordHeader) {
			_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // a courtesy, not worth more
			_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks https only.\n")
		}
		_ = c.Close()
		in.log.Debug("TLS handshake ended", "client", c.RemoteAddr().String(), "error", err)
		return
	}
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		in.deliver(secure) // net/http wants to see a *tls.Conn to speak HTTP/2
		return
	}
	in.deliver(guardedTLS{wire.NewGuard(secure, in.limits.HeaderBytes), secure})
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

// looksLikeHTTP reports whether a client that should have begun a handshake
// sent the start of a request instead.
func looksLikeHTTP(start [5]byte) bool {
	switch string(start[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// acceptTrouble is what the accept loop knows about failures of Accept.
type acceptTrouble struct {
	log      *slog.Logger
	row      int       // failures since the last success
	reported time.Time // when the last line was logged
	silent   int       // failures since then
}

// over says that Accept succeeded.
func (t *acceptTrouble) over() { t.row = 0 }

// pause returns how long to wait after err before the next Accept, and logs at
// most one line a minute: a full descriptor table fails thousands of times.
func (t *acceptTrouble) pause(err error) time.Duration {
	if errors.Is(err, syscall.ECONNABORTED) {
		return 0 // that client went away while it waited; the next one may be there
	}
	t.row++
	t.silent++
	if now := time.Now(); now.Sub(t.reported) >= time.Minute {
		t.log.Error("accepting connections", "error", err, "failures", t.silent, "remedy", remedy(err))
		t.reported, t.silent = now, 0
	}
	// From 5 ms, so that one hiccup is not felt, to 160 ms, so that visitors
	// are served again without noticing as soon as descriptors are free.
	return 5 * time.Millisecond << min(t.row-1, 5)
}

func remedy(err error) string {
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		return "raise the limit of open files (LimitNOFILE= in the unit); connections are served again when others end"
	}
	return "none needed if it stays alone; accepting goes on"
}

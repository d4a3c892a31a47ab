// Package accept takes connections in for an HTTP server: the accept loop, which
// only the end of its listener stops; the limit on open connections; the TLS
// handshake, in which no stranger may harm the others; and the lingering close of
// clients that are still sending.
package accept

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"

	"detour/engine/socket"
)

// Loop hands the connections of l to take until l is closed or ctx ends, and then
// returns Accept's error. Each waits until limiter has a place for it, and while
// descriptors are scarce. Other failures of Accept are logged and do not end the
// loop: an exhausted descriptor table has room again when idle connections have
// ended or others have left. The end of ctx does not wake Accept: whoever ends it
// must close l, too.
func Loop(ctx context.Context, l net.Listener, limiter *Limiter, log *slog.Logger, take func(net.Conn)) error {
	trouble := trouble{log: log}
	wait := func(err error) {
		if exhausted(err) {
			trouble.ended += limiter.makeRoom()
		}
		select {
		case <-time.After(trouble.pause(err)):
		case <-ctx.Done():
		}
	}
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			for scarce(c) && ctx.Err() == nil {
				wait(&net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: syscall.EMFILE})
			}
			trouble.row = 0
			// TCP keep-alive is on already, by package net or by the listener:
			// 15 s idle, 15 s between probes.
			if c = limiter.admit(ctx, c, log); c != nil {
				take(c)
			}
		case ctx.Err() != nil || errors.Is(err, net.ErrClosed):
			return err
		default:
			wait(err)
		}
	}
}

// scarce reports whether c has one of the last descriptors, which are reserved.
func scarce(c net.Conn) bool {
	if s, ok := c.(syscall.Conn); ok {
		raw, err := s.SyscallConn()
		return err == nil && socket.Scarce(raw)
	}
	return false
}

// exhausted reports whether err says that there are no descriptors left.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// trouble is what a Loop knows about failures of Accept.
type trouble struct {
	log      *slog.Logger
	row      int       // failures since the last success
	reported time.Time // when the last line was logged
	silent   int       // failures since then
	ended    int       // idle connections that were told to end since then
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
		if exhausted(err) {
			remedy = "raise the limit of open files (LimitNOFILE= in the unit), or lower [listen] max_connections; connections are served again as idle ones are ended and others leave"
		}
		t.log.Error("accepting connections", "error", err, "failures", t.silent, "idle_ended", t.ended, "remedy", remedy)
		t.reported, t.silent, t.ended = now, 0, 0
	}
	// From 5 ms, so that one hiccup is not felt, to 160 ms, so that visitors
	// are served again without noticing as soon as descriptors are free.
	return 5 * time.Millisecond << min(t.row-1, 5)
}

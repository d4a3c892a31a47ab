// Package accept takes connections in for an HTTP server: the loop that nothing
// but the end of its listener stops, the limit to how many are open, and the TLS
// handshake, which nothing that strangers send may turn against the others. It lets
// those go that are not done sending, too.
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

// Loop hands the connections of l to take, until l is closed or ctx ends, and
// returns Accept's error then. Each waits until limiter has a place for it, and
// while descriptors are scarce. Other failures of Accept it logs, and goes on: an
// exhausted descriptor table has room again when idle connections have ended, or
// others leave. The end of ctx does not wake Accept: who ends it closes l, too.
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

// scarce reports whether c has one of the last descriptors, which are for others.
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
	ended    int       // idle connections that were told to since then
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

package gateway

import (
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"detour/engine/accept"
)

// idleConns knows from net/http's ConnState which connections have nothing to do.
// It does not know of a request before its whole header has arrived, and ends HTTP/2
// without a GOAWAY: only our own engine can do better.
type idleConns struct {
	mu    sync.Mutex
	conns map[net.Conn]*idleConn
}

// idleConn is a connection that has been idle since it was put into its set.
type idleConn struct {
	net.Conn
	set   *idleConns
	since time.Time
	fresh bool // there was no request yet
}

// note is for http.Server.ConnState.
func (s *idleConns) note(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew, http.StateIdle:
		s.conns[c] = &idleConn{c, s, time.Now(), state == http.StateNew}
	default:
		delete(s.conns, c)
	}
}

// all is for accept.Limiter.
func (s *idleConns) all(yield func(accept.Idler) bool) {
	s.mu.Lock()
	conns := maps.Clone(s.conns)
	s.mu.Unlock()
	for _, c := range conns {
		if !yield(c) {
			return
		}
	}
}

func (c *idleConn) IdleSince() time.Time {
	if c.fresh && time.Since(c.since) < accept.Newcomer {
		return time.Time{}
	}
	return c.since
}

// EndIdle wakes whatever reads from c: net/http's server waiting for a request, which
// lifts this deadline if one came meanwhile, or a handshake.
func (c *idleConn) EndIdle() bool {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if c.set.conns[c.Conn] != c {
		return false
	}
	delete(c.set.conns, c.Conn)
	return c.SetReadDeadline(time.Unix(1, 0)) == nil
}

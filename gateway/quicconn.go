package gateway

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"detour/engine/accept"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

const (
	// quicResets is how many requests a client may reset at once, and
	// quicResetsSecond how many more each second: what engine/h2 allows on HTTP/2,
	// where a browser that leaves a page resets 100.
	quicResets       = 1000
	quicResetsSecond = 100

	// quicEarned is how many more each answer allows, so that a client that resets
	// half of its requests is never sent away.
	quicEarned = 2
)

// quicConn ends a client's connection when it has had no request for long, or too
// many that the client reset. http3.Server has a timer for the former, but that
// keeps what has ended in memory until then, with all that the streams had to
// send, and does not run while there are streams on which no request ever comes.
// It knows nothing of the latter.
type quicConn struct {
	conn  *quic.Conn
	limit time.Duration

	mu       sync.Mutex // guards the rest; never held while closing
	idle     *time.Timer
	since    time.Time // when requests became 0
	requests int
	over     bool
	resets   float64   // how many more requests the client may reset
	counted  time.Time // when resets last grew with time
}

// quicConnKey finds the quicConn in a request's context.
type quicConnKey struct{}

// connContext is for http3.Server.ConnContext.
func (s *QUICServer) connContext(ctx context.Context, conn *quic.Conn) context.Context {
	now := time.Now()
	c := &quicConn{conn: conn, limit: s.Limits.IdleTimeout, since: now, resets: quicResets, counted: now}
	c.idle = time.AfterFunc(c.limit, c.leave)
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(conn.Context(), func() {
		c.end()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	})
	return context.WithValue(ctx, quicConnKey{}, c)
}

// idlers are the connections, for the Limiter.
func (s *QUICServer) idlers(yield func(accept.Idler) bool) {
	s.mu.Lock()
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, c := range conns {
		if !yield(c) {
			return
		}
	}
}

// rests reports whether there is no request, and has been none for a while: we are
// not told whether the last answer is still on its way, so it gets as long as a
// newcomer does. mu is held.
func (c *quicConn) rests() bool {
	return !c.over && c.requests == 0 && time.Since(c.since) >= min(accept.Newcomer, c.limit)
}

// IdleSince is for the Limiter.
func (c *quicConn) IdleSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.rests() {
		return time.Time{}
	}
	return c.since
}

// EndIdle is for the Limiter.
func (c *quicConn) EndIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rests() && c.idle.Reset(0) // false: it ends already
}

func quicConnOf(r *http.Request) *quicConn { return r.Context().Value(quicConnKey{}).(*quicConn) }

func (c *quicConn) close(code http3.ErrCode, why string) {
	_ = c.conn.CloseWithError(quic.ApplicationErrorCode(code), why)
}

// leave ends the connection, unless a request came at the last moment.
func (c *quicConn) leave() {
	c.mu.Lock()
	rests := c.rests()
	c.mu.Unlock()
	if rests {
		c.close(http3.ErrCodeNoError, "idle")
	}
}

func (c *quicConn) requestBegins() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	c.idle.Stop()
}

// requestEnds is told whether the client reset the request.
func (c *quicConn) requestEnds(reset bool) {
	if c.countEnd(reset) {
		c.close(http3.ErrCodeExcessiveLoad, "too many requests were reset")
	}
}

// countEnd reports whether the client has reset too many requests.
func (c *quicConn) countEnd(reset bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.requests--; c.requests == 0 && !c.over {
		c.since = now
		c.idle.Reset(c.limit)
	}
	if !reset {
		c.resets = min(c.resets+quicEarned, quicResets)
		return false
	}
	c.resets = min(c.resets+now.Sub(c.counted).Seconds()*quicResetsSecond, quicResets) - 1
	c.counted = now
	return c.resets < 0
}

// end stops the timer of a connection that is over.
func (c *quicConn) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.idle.Stop()
}

package gateway

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"detour/engine/accept"
)

const (
	// quicResets is how many requests a client may take back at once, and
	// quicResetsSecond how many more each second: what engine/h2 allows on HTTP/2,
	// where a browser that leaves a page takes back 100.
	quicResets       = 1000
	quicResetsSecond = 100

	// quicEarned is how many more each answer allows, so that who takes back half
	// of what it asks for is never sent away.
	quicEarned = 2
)

// visit ends a client's QUIC connection when it has had no request for long, or
// too many that the client took back. http3.Server's own timer for the former
// keeps what has ended in memory until then, with all that the streams had to
// send, and does not run while there are streams on which no request ever comes;
// of the latter it has no notion.
type visit struct {
	conn  *quic.Conn
	limit time.Duration

	mu       sync.Mutex // guards the rest; never held while closing
	idle     *time.Timer
	since    time.Time // when requests became 0
	requests int
	over     bool
	resets   float64 // how many more are allowed
	counted  time.Time
}

// visitKey finds the visit in a request's context.
type visitKey struct{}

// visited is for http3.Server.ConnContext.
func (s *QUICServer) visited(ctx context.Context, c *quic.Conn) context.Context {
	now := time.Now()
	v := &visit{conn: c, limit: s.Limits.IdleTimeout, since: now, resets: quicResets, counted: now}
	v.idle = time.AfterFunc(v.limit, v.leave)
	s.mu.Lock()
	s.visits[v] = struct{}{}
	s.mu.Unlock()
	context.AfterFunc(c.Context(), func() {
		v.end()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.visits, v)
	})
	return context.WithValue(ctx, visitKey{}, v)
}

// idlers are the connections, for the Limiter.
func (s *QUICServer) idlers(yield func(accept.Idler) bool) {
	s.mu.Lock()
	visits := slices.Collect(maps.Keys(s.visits))
	s.mu.Unlock()
	for _, v := range visits {
		if !yield(v) {
			return
		}
	}
}

// rests reports whether there is no request, and has been none for a while: nothing
// says whether the last answer is still on its way, so it gets as long as a newcomer
// does. mu is held.
func (v *visit) rests() bool {
	return !v.over && v.requests == 0 && time.Since(v.since) >= min(accept.Newcomer, v.limit)
}

// IdleSince is for the Limiter.
func (v *visit) IdleSince() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.rests() {
		return time.Time{}
	}
	return v.since
}

// EndIdle is for the Limiter.
func (v *visit) EndIdle() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.rests() && v.idle.Reset(0) // false: it ends already
}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

func (v *visit) close(code http3.ErrCode, why string) {
	_ = v.conn.CloseWithError(quic.ApplicationErrorCode(code), why)
}

// leave ends the connection, unless a request has come as its time did.
func (v *visit) leave() {
	v.mu.Lock()
	rests := v.rests()
	v.mu.Unlock()
	if rests {
		v.close(http3.ErrCodeNoError, "idle")
	}
}

func (v *visit) requestBegins() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests++
	v.idle.Stop()
}

// requestEnds is told whether the client took the request back.
func (v *visit) requestEnds(reset bool) {
	if v.countEnd(reset) {
		v.close(http3.ErrCodeExcessiveLoad, "too many requests were taken back")
	}
}

// countEnd reports whether too many requests were taken back.
func (v *visit) countEnd(reset bool) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	if v.requests--; v.requests == 0 && !v.over {
		v.since = now
		v.idle.Reset(v.limit)
	}
	if !reset {
		v.resets = min(v.resets+quicEarned, quicResets)
		return false
	}
	v.resets = min(v.resets+now.Sub(v.counted).Seconds()*quicResetsSecond, quicResets) - 1
	v.counted = now
	return v.resets < 0
}

// end lets go of the connection, which is over.
func (v *visit) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	v.idle.Stop()
}

package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// visit ends a client's QUIC connection when it has had no request for long.
// http3.Server's own timer for that keeps what has ended in memory until then,
// with all that the streams had to send, and does not run while there are streams
// on which no request ever comes.
type visit struct {
	limit time.Duration

	mu       sync.Mutex // guards the rest
	idle     *time.Timer
	requests int
	over     bool
}

// visitKey finds the visit in a request's context.
type visitKey struct{}

// visited is for http3.Server.ConnContext.
func (s *quicServer) visited(ctx context.Context, c *quic.Conn) context.Context {
	v := &visit{limit: s.Limits.IdleTimeout}
	v.idle = time.AfterFunc(v.limit, func() {
		_ = c.CloseWithError(quic.ApplicationErrorCode(http3.ErrCodeNoError), "idle")
	})
	context.AfterFunc(c.Context(), v.end)
	return context.WithValue(ctx, visitKey{}, v)
}

func visitOf(r *http.Request) *visit { return r.Context().Value(visitKey{}).(*visit) }

func (v *visit) requestBegins() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.requests++
	v.idle.Stop()
}

func (v *visit) requestEnds() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.requests--; v.requests == 0 && !v.over {
		v.idle.Reset(v.limit)
	}
}

// end lets go of the connection, which is over.
func (v *visit) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.over = true
	v.idle.Stop()
}

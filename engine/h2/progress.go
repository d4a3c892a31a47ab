package h2

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// Limits.ProgressTimeout is kept without a clock for each operation: a Read or
// Write that waits for the client says since when, and the watchdog looks at
// least as often as one may time out.

// stalled ends what has waited for the client for too long, and returns when
// something else might have; zero = never.
func (st *stream) stalled(now time.Time) (next time.Time) {
	limit, silent := st.c.limits.ProgressTimeout, st.silent
	if st.returned {
		limit, silent = st.c.limits.WriteTimeout, false // as there is no handler that could end it
	}
	if limit <= 0 || silent || st.err != nil {
		return time.Time{}
	}
	if since := st.body.waitsSince(); !since.IsZero() {
		if next = since.Add(limit); !next.After(now) {
			st.body.end(fmt.Errorf("h2: the client sends nothing more: %w", os.ErrDeadlineExceeded))
			next = time.Time{}
		}
	}
	if st.waitsSince.IsZero() {
		return next
	}
	since := st.waitsSince
	switch {
	case st.queued && st.c.sendWindow > 0: // for room in the output, which has a limit of its own
		return earlier(now.Add(limit), next) // the window may have closed by then
	case st.queued && since.Before(st.c.moved): // others have their turn
		since = st.c.moved
	}
	by := since.Add(limit)
	if !by.After(now) {
		st.c.appendReset(st.id, codeCancel)
		st.c.closeStream(st, endedByUs, fmt.Errorf("h2: the client takes nothing more: %w", os.ErrDeadlineExceeded))
		return time.Time{}
	}
	return earlier(by, next)
}

// waitsForever reports whether an answer of this type to r may be silent by
// design: an event stream, and a gRPC call that was answered as such, which has
// a keep-alive of its own. What a client says of itself lifts no limit.
func waitsForever(r *http.Request, contentType string) bool {
	const grpc = "application/grpc"
	return strings.HasPrefix(contentType, "text/event-stream") ||
		hasPrefixFold(contentType, grpc) && hasPrefixFold(r.Header.Get("Content-Type"), grpc)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

package h2

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// Limits.ProgressTimeout needs no timer for each operation: a Read or Write that waits
// for the client notes since when, and the watchdog looks at least as often as one may
// time out.

// stalled ends what has waited for the client for too long, and returns when something
// else may have; zero = never. Conn.mu is held.
func (st *stream) stalled(now time.Time) (next time.Time) {
	limit, silent := st.c.limits.ProgressTimeout, st.silent
	if st.returned {
		limit, silent = st.c.limits.WriteTimeout, false // there is no handler any more that could end it
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
	case st.queued && st.c.sendWindow > 0: // it waits for room in the output, which has a limit of its own
		return earlier(now.Add(limit), next) // the window may have closed by then
	case st.queued && since.Before(st.c.moved): // others have had their turn since
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

// waitsForever reports whether an answer of this type to r may be silent by design: an
// event stream, or the answer to a gRPC call, which has a keep-alive of its own. The
// answer must be one, too: what a client says of itself lifts no limit.
func waitsForever(r *http.Request, contentType string) bool {
	const grpc = "application/grpc"
	return strings.HasPrefix(contentType, "text/event-stream") ||
		hasPrefixFold(contentType, grpc) && hasPrefixFold(r.Header.Get("Content-Type"), grpc)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

package accept

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"time"
)

// Handshake does the server's TLS handshake on c, whose connection below TLS is
// raw. It gives up after timeout, or when ctx ends. false means that it failed,
// which has been logged, and that raw is closed. A panic in what the tls.Config
// calls counts as a failure.
func Handshake(ctx context.Context, c *tls.Conn, raw net.Conn, timeout time.Duration, log *slog.Logger) (ok bool) {
	defer func() { // also after a runtime.Goexit of what the tls.Config calls
		if !ok {
			_ = raw.Close()
		}
	}()
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := handshake(limited, c)
	if err == nil {
		return true
	}
	client := raw.RemoteAddr().String()
	if p, ok := errors.AsType[panicError](err); ok {
		log.Error("TLS handshake panicked", "client", client, "panic", p.value, "stack", p.stack)
	} else {
		if r, ok := errors.AsType[tls.RecordHeaderError](err); ok && r.Conn != nil && looksLikeHTTP(r.RecordHeader) {
			refusePlaintext(ctx, raw)
		}
		log.Debug("TLS handshake ended", "client", client, "error", err)
	}
	return false
}

// handshake turns a panic into an error.
func handshake(ctx context.Context, c *tls.Conn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = panicError{p, string(debug.Stack())}
		}
	}()
	return c.HandshakeContext(ctx) // at once, if it was done before
}

type panicError struct {
	value any
	stack string
}

func (e panicError) Error() string { return fmt.Sprint("panic: ", e.value) }

// refusePlaintext tells a client that spoke plaintext so, and lets it read that.
func refusePlaintext(ctx context.Context, c net.Conn) {
	_ = c.SetWriteDeadline(time.Now().Add(Patience)) // it may not be reading at all
	_, _ = io.WriteString(c, "HTTP/1.0 400 Bad Request\r\n\r\nThis port speaks https only.\n")
	Linger(ctx, c, Patience)
}

// looksLikeHTTP reports whether a client that should have begun a handshake sent
// the start of a request instead.
func looksLikeHTTP(start [5]byte) bool {
	switch string(start[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

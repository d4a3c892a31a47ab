package accept_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"detour/engine/accept"
)

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *syncBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(20 * time.Second))
	t.Cleanup(func() { c.Close() })
	return c
}

// An exhausted descriptor table must not end the loop, and clients are served
// again as soon as it has room.
func TestLoopSurvivesExhaustion(t *testing.T) {
	var log syncBuffer
	full := &failing{Listener: listen(t), err: syscall.EMFILE}
	full.failures.Store(5)
	taken, ended := make(chan net.Conn), make(chan error)
	go func() {
		ended <- accept.Loop(t.Context(), full, new(accept.Limiter), log.logger(), func(c net.Conn) { taken <- c })
	}()
	for range 2 {
		dial(t, full)
		(<-taken).Close()
	}
	if n := strings.Count(log.String(), "accepting connections"); n != 1 || !strings.Contains(log.String(), "LimitNOFILE") {
		t.Errorf("%d lines about 5 failures; want 1, with a remedy\n%s", n, &log)
	}
	full.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Loop = %v; want %v", err, net.ErrClosed)
	}
}

// A client that went while it waited for Accept is no trouble.
func TestLoopForgetsWhoLeft(t *testing.T) {
	var log syncBuffer
	left := &failing{Listener: listen(t), err: syscall.ECONNABORTED}
	left.failures.Store(1000)
	taken := make(chan net.Conn)
	go accept.Loop(t.Context(), left, new(accept.Limiter), log.logger(), func(c net.Conn) { taken <- c })
	dial(t, left)
	(<-taken).Close()
	if log.String() != "" {
		t.Errorf("logged %s; want nothing", &log)
	}
}

// Who ends the loop is not kept waiting by its patience.
func TestLoopEndsAmongFailures(t *testing.T) {
	var log syncBuffer
	ctx, cancel := context.WithCancel(t.Context())
	broken := &failing{Listener: listen(t), err: errors.New("broken")}
	broken.failures.Store(1 << 30)
	ended := make(chan error)
	go func() { ended <- accept.Loop(ctx, broken, new(accept.Limiter), log.logger(), func(net.Conn) {}) }()
	for log.String() == "" {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; !errors.Is(err, broken.err) {
		t.Errorf("Loop = %v; want %v", err, broken.err)
	}
}

// failing is a listener whose Accept fails a number of times.
type failing struct {
	net.Listener
	err      error
	failures atomic.Int64 // that are still to come
}

func (l *failing) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: l.err}
	}
	return l.Listener.Accept()
}

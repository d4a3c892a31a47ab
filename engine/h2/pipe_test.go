package h2

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"detour/engine/workers"
)

// pipe is a client of a connection in memory, for tests in a bubble of synctest:
// time passes there only when nothing else happens, so that they know what was
// done when. Nothing is sent to the client but while it reads.
func pipe(t *testing.T, h http.HandlerFunc, o Options) (*raw, *Conn) {
	ours, theirs := net.Pipe()
	theirs.SetDeadline(time.Now().Add(time.Hour)) // who waits in vain
	o.Handler, o.Workers = h, new(workers.Pool)
	c := New(ours, o)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = c.Serve(context.Background())
	}()
	t.Cleanup(func() {
		theirs.Close()
		<-served
		o.Workers.Stop()
		o.Workers.Wait()
	})
	return &raw{t: t, conn: theirs, Framer: http2.NewFramer(theirs, theirs)}, c
}

// buffer has what the server sends taken at once, as a kernel does.
func (r *raw) buffer() *raw {
	b := &buffered{Conn: r.conn, came: make(chan []byte, 10_000)}
	go b.take()
	r.conn, r.Framer = b, http2.NewFramer(b, b)
	return r
}

type buffered struct {
	net.Conn
	came chan []byte
	rest []byte
}

func (b *buffered) take() {
	defer close(b.came)
	p := make([]byte, largeBuffer)
	for {
		n, err := b.Conn.Read(p)
		if err != nil {
			return
		}
		b.came <- append([]byte(nil), p[:n]...)
	}
}

func (b *buffered) Read(p []byte) (int, error) {
	for len(b.rest) == 0 {
		var ok bool
		if b.rest, ok = <-b.came; !ok {
			return 0, io.EOF
		}
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// took fails unless it is that long since begun.
func took(t *testing.T, what string, begun time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(begun); got != want {
		t.Errorf("%s came after %v; want %v", what, got, want)
	}
}

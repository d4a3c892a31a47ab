package client

import (
	"net"
	"syscall"
	"time"

	"detour/engine/socket"
)

// conn is a connection to the upstream. One exchange at a time has it.
type conn struct {
	nc     net.Conn
	direct bool            // nc's Write does nothing but write to the socket
	raw    syscall.RawConn // nil = it has none, and is used once
	ready  func(fd uintptr) bool
	abort  func()    // closes nc from another goroutine
	reused bool      // it has served a request
	asked  time.Time // when its last request began; to know when it ended would take another look at the clock
	usable time.Time // until when it may be used for another request; zero = the last answer did not say

	idle     int       // sweeps that have met it since it was put back; guarded by Transport.mu
	deadline time.Time // of reads, as it was set; zero = none

	// For ready, while x waits for the first bytes of its answer.
	x     *exchange
	probe [1]byte
	n     int
	err   error
}

func newConn(nc net.Conn) *conn {
	nc = socket.Direct(nc)
	c := &conn{nc: nc, direct: socket.IsDirect(nc)}
	c.abort = c.close
	if sc, ok := nc.(syscall.Conn); ok && canProbe {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
			c.ready = c.onReady
		}
	}
	return c
}

func (c *conn) close() { _ = c.nc.Close() } // nothing is lost that anybody waits for

// closeMargin is how long before its upstream closes it a connection may be used for
// the last time: the request needs time to get there, and some upstreams count in
// whole seconds.
const closeMargin = time.Second

// keepFor notes that the upstream closes the connection after that many seconds
// without use. It counts them from the end of its answer, which is not known here.
// Counted from now, when the answer's head has just come, they end too early at worst.
func (c *conn) keepFor(seconds int64) {
	keep := time.Duration(seconds) * time.Second
	c.usable = time.Now().Add(keep - min(closeMargin, keep/2))
}

// maxRest is how long a connection may have rested if a request must not be sent twice
// and the upstream does not say how long it keeps connections. Of such upstreams
// gunicorn closes first by default, after two seconds. The rest is counted from when
// the last request began, so a request that follows an answer that took a second gets
// a new connection, too: compared with that second nobody notices.
const maxRest = time.Second

// stillUsable reports whether a kept connection may be used again, as far as its last
// answer and its age tell. once says that the request must not be sent twice. What the
// last answer said is forgotten, as that of the next one counts then.
func (c *conn) stillUsable(once bool) bool {
	if c.usable.IsZero() {
		return !once || time.Since(c.asked) < maxRest
	}
	until := c.usable
	c.usable = time.Time{}
	return time.Now().Before(until)
}

// setDeadline sets the deadline of reads; zero = none. If it cannot be set the
// connection is closed, which the next read tells.
func (c *conn) setDeadline(d time.Time) {
	c.deadline = d
	_ = c.nc.SetReadDeadline(d)
}

// noSocket stands for the descriptor of a connection when the poller did not say it.
const noSocket = ^uintptr(0)

// exchangeFirst sends x's request and waits for the first bytes of the answer. When a
// deadline passes it returns, and may be called again to go on. errStale means that
// nothing was sent.
func (c *conn) exchangeFirst(x *exchange) (int, error) {
	if c.raw == nil {
		if !x.sent {
			if err := x.send(noSocket); err != nil {
				return 0, err
			}
		}
		return c.nc.Read(x.buf.free())
	}
	c.x = x
	err := c.raw.Read(c.ready)
	c.x = nil
	if err != nil {
		return 0, err
	}
	return c.n, c.err
}

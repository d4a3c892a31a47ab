package accept

import (
	"context"
	"crypto/tls"
	"errors"
	"iter"
	"log/slog"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"detour/engine/socket"
)

// Limiter bounds how many connections are open on all the listeners that share
// it, and makes room for new ones by ending those that have been idle longest. The
// zero Limiter has no bound, and makes room only when descriptors are exhausted.
// Its methods may be called from several goroutines.
type Limiter struct {
	mu      sync.Mutex // guards the rest
	max     int        // 0 = no limit
	open    int
	freed   chan struct{} // closed when there may be room again; nil = nobody waits
	servers []iter.Seq[Idler]

	asked   time.Time // when idle connections were told to end
	leaving int       // how many of these are still open, at least: others that left are counted off, too

	reported time.Time // when the last line was logged
	ended    int       // idle connections that were told to end since then
}

// Idler is a connection that may have nothing to do.
type Idler interface {
	// IdleSince returns since when there has been no request; zero = there is one,
	// or is about to be. It must answer at once, if need be by a guess, since all
	// connections are asked.
	IdleSince() time.Time
	// EndIdle tells the connection to end, and does not wait until it has. false =
	// it is not idle after all.
	EndIdle() bool
}

// Newcomer is how long a new connection without a request counts as about to send
// one: the time for a handshake and a request, with a lost packet between them.
// Otherwise, while all others are busy, each newcomer would be ended for the next.
const Newcomer = 2 * time.Second

// farewell is how long connections that were told to end may take before others
// are told: longer than most clients take to leave.
const farewell = 200 * time.Millisecond

// SetMax sets how many connections may be open; 0 = no limit. Those beyond it are
// not cut, but no new ones are let in before they are gone.
func (l *Limiter) SetMax(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.max = n
	l.wake()
}

// Scarce reports whether half of the places are taken.
func (l *Limiter) Scarce() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.max > 0 && l.open >= l.max/2
}

// Join makes the Limiter look for idle connections among conns, too, from now on.
func (l *Limiter) Join(conns iter.Seq[Idler]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.servers = append(l.servers, conns)
}

// Enter waits until there is a place for one more connection, which Leave gives
// back. false = ctx ended first.
func (l *Limiter) Enter(ctx context.Context, log *slog.Logger) bool {
	for {
		freed := l.take()
		if freed == nil {
			return true
		}
		l.report(log, l.makeRoom())
		select {
		case <-freed:
		case <-time.After(farewell):
		case <-ctx.Done():
			return false
		}
	}
}

// admit is Enter for c, which leaves when it is closed. While it waits, so do the
// next ones, in the kernel's queue. nil = ctx ended first.
func (l *Limiter) admit(ctx context.Context, c net.Conn, log *slog.Logger) net.Conn {
	if _, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok {
		return c // servers want to see it as it is; a listener with TLS of its own has to count itself
	}
	if !l.Enter(ctx, log) {
		_ = c.Close()
		return nil
	}
	return &guest{Conn: c, limiter: l}
}

// take takes a place, or returns what is closed when there may be one.
func (l *Limiter) take() (freed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.max == 0 || l.open < l.max {
		l.open++
		return nil
	}
	if l.freed == nil {
		l.freed = make(chan struct{})
	}
	return l.freed
}

// Leave is the reverse of Enter.
func (l *Limiter) Leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	l.leaving--
	l.wake()
}

// wake makes whoever waits look again. mu is held.
func (l *Limiter) wake() {
	if l.freed != nil {
		close(l.freed)
		l.freed = nil
	}
}

// batch is how many connections are ended at once at most, as in nginx. It must not
// be too few: all connections are looked at each time.
const batch = 32

// makeRoom tells an eighth of the idle connections to end, but no more than a
// batch, and returns how many it told. While some from last time are still about to
// leave it tells none: otherwise each newcomer would cost a batch.
func (l *Limiter) makeRoom() (ended int) {
	type candidate struct {
		Idler
		since time.Time
	}
	l.mu.Lock()
	servers, waiting := l.servers, l.leaving > 0 && time.Since(l.asked) < farewell
	l.mu.Unlock()
	if waiting {
		return 0
	}
	var idle []candidate
	for _, conns := range servers {
		for c := range conns {
			if since := c.IdleSince(); !since.IsZero() {
				idle = append(idle, candidate{c, since})
			}
		}
	}
	slices.SortFunc(idle, func(a, b candidate) int { return a.since.Compare(b.since) })
	wanted := min(batch, max(1, len(idle)/8))
	l.mu.Lock()
	l.asked, l.leaving = time.Now(), wanted
	l.mu.Unlock()
	for i := 0; i < len(idle) && ended < wanted; i++ {
		if idle[i].EndIdle() {
			ended++
		}
	}
	l.mu.Lock()
	l.leaving -= wanted - ended
	l.mu.Unlock()
	return ended
}

// report logs at most one line a minute.
func (l *Limiter) report(log *slog.Logger, ended int) {
	l.mu.Lock()
	l.ended += ended
	limit, total := l.max, l.ended
	now := time.Now()
	due := now.Sub(l.reported) >= time.Minute
	if due {
		l.reported, l.ended = now, 0
	}
	l.mu.Unlock()
	if due {
		log.Warn("all allowed connections are open", "limit", limit, "idle_ended", total,
			"remedy", "raise [listen] max_connections, and the limit of open files (LimitNOFILE= in the unit) to more than three times that, if these are visitors and there is memory for more; new ones are served as idle ones are ended and others leave")
	}
}

// guest is a connection with a place.
type guest struct {
	net.Conn
	limiter *Limiter
	left    sync.Once
}

func (g *guest) Close() error {
	err := g.Conn.Close()
	g.left.Do(g.limiter.Leave)
	return err
}

// CloseWrite is *net.TCPConn's; errors.ErrUnsupported where there is none.
func (g *guest) CloseWrite() error { return socket.CloseWrite(g.Conn) }

// SetLinger is *net.TCPConn's; errors.ErrUnsupported where there is none.
func (g *guest) SetLinger(sec int) error {
	if tcp, ok := g.Conn.(interface{ SetLinger(int) error }); ok {
		return tcp.SetLinger(sec)
	}
	return errors.ErrUnsupported
}

// SyscallConn is *net.TCPConn's; errors.ErrUnsupported where there is none.
func (g *guest) SyscallConn() (syscall.RawConn, error) {
	if s, ok := g.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

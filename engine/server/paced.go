package server

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// paced is a connection whose Write fails when the client takes nothing for too long.
// However long it takes, a Write that moves goes on: after a deadline it continues if
// part of the data has gone. The time runs only while it writes.
type paced struct {
	net.Conn
	piece int // how much it writes at once; 0 = all

	mu    sync.Mutex    // guards the rest; not held while writing
	limit time.Duration // 0 = none
	by    time.Time     // deadline in force; zero = none
	fixed bool          // it was set from outside, and is final
	fail  error         // of the first write that failed; nothing may follow that
}

func (p *paced) Write(b []byte) (n int, err error) {
	for {
		piece := b[n:]
		if p.piece > 0 && len(piece) > p.piece {
			piece = piece[:p.piece]
		}
		if err := p.arm(); err != nil {
			return n, err
		}
		m, err := p.Conn.Write(piece)
		n += m
		if err != nil {
			err = p.failed(m > 0, err)
		}
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// arm sets the deadline for a write, unless one that is nearly the same is in force.
func (p *paced) arm() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.fixed || p.limit == 0 && p.by.IsZero():
	case p.limit == 0:
		p.by = time.Time{}
		_ = p.Conn.SetWriteDeadline(p.by)
	default:
		if !stands(p.by, p.limit) {
			p.by = time.Now().Add(p.limit)
			_ = p.Conn.SetWriteDeadline(p.by)
		}
	}
	return p.fail
}

// failed makes a failure permanent. If it is only our own deadline, and something has
// moved, failed returns nil instead, and the write may go on.
func (p *paced) failed(moved bool, err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if moved && !p.fixed && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	p.fail = err
	return err
}

// broken reports whether a write has failed.
func (p *paced) broken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fail != nil
}

// renew sets the time in which a write must move something, in place of any
// deadline that was set from outside; 0 = no limit.
func (p *paced) renew(limit time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit, p.fixed = limit, false
}

// SetWriteDeadline sets a deadline that stays until renew. With the zero time the
// connection's own limit applies again.
func (p *paced) SetWriteDeadline(t time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by, p.fixed = t, !t.IsZero()
	return p.Conn.SetWriteDeadline(t)
}

func (p *paced) SetDeadline(t time.Time) error {
	return errors.Join(p.Conn.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// stands reports whether a deadline that is in force can take the place of one d from
// now. Setting one costs as much as parsing a request.
func stands(inForce time.Time, d time.Duration) bool {
	left := time.Until(inForce) // reads one clock, time.Now two
	return left <= d && left > d-min(time.Second, d/8)
}

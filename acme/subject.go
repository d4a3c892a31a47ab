package acme

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// subject is one name to keep a certificate for, with what is known of its
// orders. Certmagic allows one name per certificate.
type subject struct {
	name string

	mu       sync.Mutex // guards all below; nothing slow happens under it
	cancel   context.CancelFunc
	heard    time.Time // of the last sign of life of the order's job
	busy     bool      // an order is on its way
	failures int       // in a row
	failed   time.Time // when the last one was
	cause    error     // of the last one, as certmagic has it
	problem  string    // the same in the operator's words; "" = none
	issuers  []string  // problems of the attempt that is on its way, one an issuer
}

// start begins a new series of orders; it ends with stop or with parent.
func (s *subject) start(parent context.Context) context.Context {
	ctx, cancel := context.WithCancel(parent)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cancel = cancel
	s.heard, s.busy, s.failures = time.Now(), false, 0
	s.issuers = nil
	return ctx
}

// stop ends the series of orders; a running one takes its TXT record back.
func (s *subject) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cancel != nil {
		s.cancel()
		s.cancel = nil
	}
}

func (s *subject) ordering() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, s.busy, s.issuers = time.Now(), true, nil
}

// fulfilled notes that there is a certificate. If it is due, a failure to renew
// it is heard of again.
func (s *subject) fulfilled() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, s.busy = time.Now(), false
	s.failures, s.problem, s.issuers = 0, "", nil
}

// issuerFailed notes why one of several issuers did not issue.
func (s *subject) issuerFailed(issuer, problem string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.issuers = append(s.issuers, fmt.Sprintf("%s: %s", issuer, problem))
}

// orderFailed notes that an order failed at all issuers and returns why, and
// when the next one is due.
func (s *subject) orderFailed(cause error) (string, time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard, s.busy, s.failed = time.Now(), false, time.Now()
	s.failures++
	s.cause, s.problem = cause, explain(cause)
	if len(s.issuers) > 0 {
		s.problem = strings.Join(s.issuers, "; ")
	}
	return s.problem, s.nextTry()
}

// told reports whether err is why the last order failed.
func (s *subject) told(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause != nil && errors.Is(err, s.cause)
}

func (s *subject) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.problem != ""
}

// last returns why the last order failed, "" = it did not, and when the next
// is due, zero = now or never.
func (s *subject) last() (problem string, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failures > 0 && !s.busy {
		next = s.nextTry()
	}
	return s.problem, next
}

// dead reports whether the job that should be ordering has gone silent: it
// neither asks an authority nor waits for its next try. Jobs end for good after
// 30 days, and at once when the storage cannot be written.
func (s *subject) dead(now time.Time) bool {
	// An order takes minutes at worst, but may queue behind hundreds of others:
	// certmagic starts ten every ten seconds.
	const patience, queue = 5 * time.Minute, time.Hour
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.busy:
		return now.Sub(s.heard) > queue
	case s.failures > 0:
		return now.Sub(s.nextTry()) > patience
	default:
		return now.Sub(s.heard) > patience
	}
}

// nextTry must be called with mu held and failures > 0.
func (s *subject) nextTry() time.Time {
	waits := [...]time.Duration{ // minutes; certmagic's schedule, async.go
		1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 120, 120, 180, 180, 360,
	}
	return s.failed.Add(waits[min(s.failures, len(waits))-1] * time.Minute)
}

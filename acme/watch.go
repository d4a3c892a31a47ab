package acme

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/caddyserver/certmagic"
)

// watch sees to what certmagic does not: files that change under us, a storage
// that comes back, a token that was repaired, orders whose job has died, a clock
// that was set.
func (m *Manager) watch() {
	ticks := time.NewTicker(m.options.tick)
	defer ticks.Stop()
	// Certmagic's own first retry comes after a minute, so a shorter interval
	// would only restart jobs that are about to try.
	const watchdogInterval = 10 * time.Minute
	last := time.Now()
	watchdog := last.Add(watchdogInterval)
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-ticks.C:
			for _, own := range m.table.Load().pairs {
				own.refresh(m.log)
			}
			m.repair()
			// Timers do not notice that the clock was set, or that the machine
			// slept. By less, no certificate is wrong for long.
			if step := now.Round(0).Sub(last.Round(0)) - now.Sub(last); step.Abs() > time.Minute {
				m.log.Info("the clock was set, looking at all certificates", "by", step.Round(time.Second))
				m.clockSet()
			}
			last = now
			if now.After(watchdog) {
				m.reviveDead(now)
				watchdog = now.Add(watchdogInterval)
			}
		}
	}
}

// sweep removes TXT records that a crash left in the zone.
func (m *Manager) sweep() {
	hourly := time.NewTicker(time.Hour)
	defer hourly.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-hourly.C:
			if err := m.dns.sweep(m.ctx, time.Hour); err != nil {
				m.log.Warn("old TXT records not removed", "error", explain(err))
			}
		}
	}
}

// repair orders again as soon as what made orders fail has changed.
func (m *Manager) repair() {
	if m.config.Load() == nil {
		return
	}
	wasUnsaved := m.unsaved.Load() != nil
	if wasUnsaved {
		m.openStorage() // only then: it writes, and a router's flash wears out
	}
	storageBack := wasUnsaved && m.unsaved.Load() == nil
	failing := false
	for _, s := range m.table.Load().orders {
		failing = failing || s.failing()
	}
	var token tokenDigest
	if failing {
		token = digestOf(m.tokenSource())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return
	}
	tokenBack := failing && m.tokenChanged(token)
	for _, s := range m.table.Load().orders {
		if storageBack && !m.usable(s) || tokenBack && s.failing() {
			m.reorder(s)
		}
	}
}

// reviveDead starts the orders again whose job has ended without a certificate.
func (m *Manager) reviveDead(now time.Time) {
	dead := func(s *subject) bool { return m.managed(s) == nil && s.dead(now) }
	found := false
	for _, s := range m.table.Load().orders {
		found = found || dead(s)
	}
	if !found || m.config.Load() == nil {
		return
	}
	m.openStorage() // what jobs die of without a word
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return
	}
	for _, s := range m.table.Load().orders {
		if dead(s) {
			m.log.Warn("order had stopped, starting it again", "name", s.name)
			m.reorder(s)
		}
	}
}

// clockSet makes good what a wrong clock did, as of a machine that has none of
// its own until it finds the network: orders failed because the authority did
// not seem valid, and what the local CA made is not valid now.
func (m *Manager) clockSet() {
	if m.config.Load() == nil {
		return
	}
	m.openStorage() // for a root at its end
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return
	}
	for _, s := range m.table.Load().orders {
		if cert := m.managed(s); cert != nil && m.localOnly() && !m.local.alive(cert.Leaf, 0) {
			m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: s.name}}) // a stand-in answers until there is a new one
		}
		if s.failing() || !m.usable(s) {
			m.reorder(s)
		}
	}
}

// openStorage tries the storage and opens the local CA in it, and remembers
// what is wrong. Called without mu: the disk may hang.
func (m *Manager) openStorage() {
	// Long enough to wait for another process that is making the same root.
	ctx, cancel := context.WithTimeout(m.ctx, 3*time.Second)
	defer cancel()
	err := m.storage.probe(ctx)
	// With an unusable storage this is what puts a root into memory.
	if caErr := m.local.open(ctx, m.storage); err == nil {
		err = caErr
	}
	if m.ctx.Err() != nil {
		return // Close may have closed the storage
	}
	before := m.unsaved.Load()
	switch {
	case err == nil && before != nil:
		m.unsaved.Store(nil)
		m.log.Info("certificates can be stored again", "storage", m.options.Storage)
	case err != nil && (before == nil || *before != err.Error()):
		problem := err.Error()
		m.unsaved.Store(&problem)
		m.log.Error("certificates cannot be stored, serving local ones from memory", "error", err)
	}
}

// tokenDigest tells two tokens apart without keeping them.
type tokenDigest [sha256.Size]byte

// digestOf asks source, which may read a file; zero = there is no token.
func digestOf(source func() (string, error)) tokenDigest {
	if source == nil {
		return tokenDigest{}
	}
	token, err := source()
	if err != nil {
		return tokenDigest{}
	}
	return sha256.Sum256([]byte(token))
}

// tokenChanged reports whether there is a token that differs from what there was
// at the last call. Called with mu held.
func (m *Manager) tokenChanged(now tokenDigest) bool {
	before := m.tokenSeen
	m.tokenSeen = now
	return now != before && now != tokenDigest{}
}

func (m *Manager) tokenSource() func() (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.settings.Token
}

// event is certmagic's OnEvent. It runs on certmagic's goroutines.
func (m *Manager) event(ctx context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	if event == "cached_managed_cert" {
		if sans, ok := data["sans"].([]string); ok && len(sans) > 0 {
			name = sans[0]
		}
	}
	s := m.table.Load().orders[name]
	if s == nil {
		if event == "cached_managed_cert" { // removed while it was being loaded
			m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
		}
		return nil
	}
	switch event {
	case "cert_obtaining":
		s.ordering()
	case "cached_managed_cert":
		s.fulfilled()
	case "cert_obtained":
		s.fulfilled()
		issuer, _ := data["issuer"].(string)
		m.log.Info("certificate obtained", "name", name, "issuer", issuerLabel(issuer), "renewal", data["renewal"])
	case "cert_failed":
		err, _ := data["error"].(error)
		if ctx.Err() != nil || errors.Is(err, context.Canceled) {
			return nil // we took the order back ourselves
		}
		problem, next := s.orderFailed(err)
		m.log.Warn("certificate not obtained", "name", name, "error", problem, "next_try", next)
	}
	return nil
}

package acme

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/caddyserver/certmagic"
)

// watch sees to what certmagic does not: files that change under us, a storage
// that comes back, a token that was repaired, orders whose job has died.
func (m *Manager) watch() {
	ticks := time.NewTicker(m.options.tick)
	defer ticks.Stop()
	// Certmagic's own first retry comes after a minute, so a shorter interval
	// would only restart jobs that are about to try.
	const watchdogInterval = 10 * time.Minute
	watchdog := time.Now().Add(watchdogInterval)
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-ticks.C:
			for _, own := range m.table.Load().pairs {
				own.refresh(m.log)
			}
			m.repair()
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.config.Load() == nil {
		return
	}
	orders := m.table.Load().orders
	failing := false
	for _, s := range orders {
		failing = failing || s.failing()
	}
	wasUnsaved := m.unsaved.Load() != nil
	if wasUnsaved {
		m.openStorage() // only then: it writes, and a router's flash wears out
	}
	storageBack := wasUnsaved && m.unsaved.Load() == nil
	tokenBack := failing && m.tokenChanged()
	for _, s := range orders {
		if storageBack && !m.usable(s) || tokenBack && s.failing() {
			m.reorder(s)
		}
	}
}

// reviveDead starts the orders again whose job has ended without a certificate.
func (m *Manager) reviveDead(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || m.config.Load() == nil {
		return
	}
	var dead []*subject
	for _, s := range m.table.Load().orders {
		if m.managed(s) == nil && s.dead(now) {
			dead = append(dead, s)
		}
	}
	if len(dead) > 0 {
		m.openStorage() // what jobs die of without a word
	}
	for _, s := range dead {
		m.log.Warn("order had stopped, starting it again", "name", s.name)
		m.reorder(s)
	}
}

// openStorage tries the storage and opens the local CA in it, and remembers
// what is wrong. Called by New, and with mu held.
func (m *Manager) openStorage() {
	// Long enough to wait for another process that is making the same root.
	ctx, cancel := context.WithTimeout(m.ctx, 3*time.Second)
	defer cancel()
	err := m.storage.probe(ctx)
	// With an unusable storage this is what puts a root into memory.
	if caErr := m.local.open(ctx, m.storage); err == nil {
		err = caErr
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

// tokenChanged reports whether the token differs from that at the last call.
// Called with mu held.
func (m *Manager) tokenChanged() bool {
	if m.settings.Token == nil {
		return false
	}
	token, err := m.settings.Token()
	if err != nil {
		token = ""
	}
	digest := tokenDigest(sha256.Sum256([]byte(token)))
	changed := m.tokenSeen != tokenDigest{} && digest != m.tokenSeen
	m.tokenSeen = digest
	return changed && err == nil
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
		problem, next := s.orderFailed(explain(err))
		m.log.Warn("certificate not obtained", "name", name, "error", problem, "next_try", next)
	}
	return nil
}

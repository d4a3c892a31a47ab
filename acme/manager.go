package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

// Options are fixed for the life of a Manager.
type Options struct {
	Storage            string        // directory in certmagic's file layout, as Caddy's data directory has it
	Log                *slog.Logger  // what an operator should know; nil = silent
	Zap                *zap.Logger   // certmagic's own, more talkative log; nil = silent
	RenewCheckInterval time.Duration // how often renewals are due for a look; 0 = 10 min
	CloudflareBaseURL  string        // "" = the public API

	tick         time.Duration    // how often watch looks around; 0 = 5 s
	leafLifetime time.Duration    // of the local CA's certificates; 0 = 12 h
	now          func() time.Time // the local CA's clock; nil = time.Now
}

// Settings may change with every reload.
type Settings struct {
	Issuers    []Issuer               // in order of preference, at least one
	Token      func() (string, error) // Cloudflare's token, asked at each use so that a rotated one works at once; see TokenSource
	Resolvers  []string               // host:port asked whether a TXT record is visible; empty = the zone's own name servers
	DisableARI bool                   // do not ask the authority when to renew (RFC 9773); for tests
}

// Issuer is a certificate authority and the account used there.
type Issuer struct {
	CA         string // Local or an ACME directory URL
	Roots      string // PEM file of a private authority's roots; "" = the system's
	Email      string // "" = none
	EABKeyID   string // external account binding (RFC 8555 section 7.3.4); "" = none
	EABKeyFile string // file with its base64url key; "" = ACME_EAB_KEY or the credential acme_eab_key
}

// Local is the Issuer.CA of the embedded local CA.
const Local = "local"

// Subject is one host to keep a certificate for.
type Subject struct {
	Names             []string // canonical host names served; may start with "*."
	CertFile, KeyFile string   // the operator's own certificate; "" = from the issuers
}

// Manager keeps the certificates of all hosts. Its methods may be called from
// several goroutines at once.
type Manager struct {
	options Options
	log     *slog.Logger
	zap     *zap.Logger
	storage *storage
	local   *authority
	dns     *solver
	cache   *certmagic.Cache

	table  atomic.Pointer[table]            // what handshakes see; never nil
	config atomic.Pointer[certmagic.Config] // what renewals see; nil before Manage

	unsaved atomic.Pointer[string] // why the storage cannot be used; nil = it can

	ctx    context.Context // of every order; ends with Close
	cancel context.CancelFunc
	owned  sync.WaitGroup // goroutines Close waits for
	closed atomic.Bool    // nothing is begun any more

	// mu lets one change happen at a time. Handshakes and events never take
	// it, so reading one's own certificates under it delays no visitor. The
	// storage and the token are looked at without it.
	mu        sync.Mutex
	settings  Settings
	tokenSeen tokenDigest
}

// New opens the storage and the local CA. A storage that cannot be written is
// not an error: it is reported in the log and in Status, the local CA then lives
// in memory, and the storage is tried again until it works.
func New(o Options) (*Manager, error) {
	if o.Storage == "" {
		return nil, errors.New("acme: no storage directory given")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Zap == nil {
		o.Zap = zap.NewNop()
	}
	if o.tick == 0 {
		// Cheap (a few stat calls), and soon enough for a file someone just copied.
		o.tick = 5 * time.Second
	}
	if o.leafLifetime == 0 {
		// Short, so that a stolen key is soon worthless, and longer than a
		// night in which nothing could be renewed.
		o.leafLifetime = 12 * time.Hour
	}
	api, err := newAPIClient(o.CloudflareBaseURL)
	if err != nil {
		return nil, err
	}
	m := &Manager{options: o, log: o.Log, storage: newStorage(o.Storage)}
	m.zap = observeIssuers(o.Zap, m.issuerFailed, m.orderEnded)
	m.local = newAuthority(o.leafLifetime)
	if o.now != nil {
		m.local.now = o.now
	}
	m.dns = newSolver(api, m.storage, o.Log)
	m.table.Store(&table{})
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.openStorage()
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config.Load(), nil },
		RenewCheckInterval: o.RenewCheckInterval,
		Logger:             m.zap,
	})
	m.owned.Go(m.watch)
	m.owned.Go(m.sweep)
	return m, nil
}

// Manage installs the settings and the wanted subjects, and returns before any
// authority was asked. A host of a zone in wildcardZones is served by one
// certificate for *.zone when it lies exactly one label below the zone. Subjects
// that stay keep their certificate and their place in the retry schedule;
// removed ones stop at once, their files are kept.
func (m *Manager) Manage(s Settings, subjects []Subject, wildcardZones []string) {
	token := digestOf(s.Token)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return
	}
	before := m.settings
	m.settings = s
	m.dns.use(s.Token, s.Resolvers)

	old := m.table.Load()
	next := old.replaced(subjects, wildcardZones, m.log)
	m.local.permit(next.names())
	reissue := !slices.EqualFunc(before.Issuers, s.Issuers, func(a, b Issuer) bool { return a.CA == b.CA })
	renewed := m.config.Load() == nil || before.DisableARI != s.DisableARI || !reflect.DeepEqual(before.Issuers, s.Issuers)
	if renewed || m.brokenIssuer() {
		m.config.Store(m.configure(s))
	}
	m.table.Store(next)

	for name, subject := range old.orders {
		if next.orders[name] == nil {
			subject.stop()
			m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
		}
	}
	tokenChanged := m.tokenChanged(token)
	for name, subject := range next.orders {
		switch {
		case old.orders[name] == nil:
			m.order(subject)
		case reissue, (renewed || tokenChanged) && subject.failing():
			m.reorder(subject)
		}
	}
}

// Retry orders again now what is missing or failing. Names are host names;
// none means all. A certificate that is valid and not due is left alone.
func (m *Manager) Retry(names ...string) {
	if m.config.Load() == nil {
		return
	}
	m.openStorage()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Load() {
		return
	}
	m.config.Store(m.configure(m.settings)) // files named by an issuer may have been repaired
	t := m.table.Load()
	for _, own := range t.pairs {
		own.reload(m.log)
	}
	for _, subject := range t.orders {
		asked := len(names) == 0 || slices.ContainsFunc(names, func(name string) bool {
			h := t.lookup(name)
			return h != nil && h.order == subject
		})
		if asked && (subject.failing() || !m.usable(subject)) {
			m.reorder(subject)
		}
	}
}

// LocalRoot is the local CA's root certificate in PEM, for installing on the
// devices that should trust it.
func (m *Manager) LocalRoot() ([]byte, error) { return m.local.rootPEM() }

// Close stops orders and renewals, takes their TXT records back, and returns
// when that is done or ctx ends, also when the disk hangs. Handshakes are still
// answered. It may be called again.
func (m *Manager) Close(ctx context.Context) error {
	if m.closed.Swap(true) {
		return nil
	}
	m.cancel()
	done := make(chan struct{})
	go func() {
		m.mu.Lock()
		//lint:ignore SA2001 what began before is done now
		m.mu.Unlock()
		m.cache.Stop()
		m.owned.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
	err := m.storage.close(ctx)
	m.dns.api.close()
	if err = errors.Join(ctx.Err(), err); err != nil {
		return fmt.Errorf("wait for orders to end: %w", err)
	}
	return nil
}

// order hands a subject to certmagic, which loads its certificate from the
// storage or orders it, again and again until m.ctx or the subject ends.
func (m *Manager) order(s *subject) {
	ctx := s.start(m.ctx)
	cfg := m.config.Load()
	m.owned.Go(func() {
		m.dropTornCertificate(ctx, cfg, s.name)
		if err := cfg.ManageAsync(ctx, []string{s.name}); err != nil {
			m.log.Error("order not started", "name", s.name, "error", err)
		}
	})
}

// reorder forgets the retry schedule of a subject and starts anew. What is
// served is served on until its successor is there.
func (m *Manager) reorder(s *subject) {
	s.stop()
	if m.managed(s) == nil {
		m.order(s)
		return
	}
	ctx := s.start(m.ctx)
	cfg := m.config.Load()
	m.owned.Go(func() { m.renew(ctx, cfg, s) })
}

// renew replaces a certificate that is due, or is not from one of cfg's issuers,
// and returns when that is done or ctx ends. ManageAsync would take it for
// managed, and certmagic's job queue drops a renewal while another one of the
// same name, perhaps just cancelled, is on its way.
func (m *Manager) renew(ctx context.Context, cfg *certmagic.Config, s *subject) {
	if err := cfg.RenewCertAsync(ctx, s.name, false); err != nil {
		if ctx.Err() == nil {
			m.log.Error("renewal stopped", "name", s.name, "error", explain(err))
		}
		return
	}
	old := m.cache.AllMatchingCertificates(s.name)
	cert, err := cfg.CacheManagedCertificate(ctx, s.name)
	if err != nil {
		m.log.Error("renewed certificate not loaded", "name", s.name, "error", err)
		return
	}
	for _, c := range old {
		if c.Hash() != cert.Hash() && slices.Equal(c.Names, cert.Names) {
			m.cache.Remove([]string{c.Hash()})
		}
	}
}

package acme

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/libdns/cloudflare"
	"github.com/libdns/libdns"
	"github.com/mholt/acmez/v3/acme"
	"golang.org/x/sync/singleflight"
)

// solver answers the DNS-01 challenge (RFC 8555 section 8.4) by TXT records at
// Cloudflare. It is an acmez.Solver and Waiter. Zones come from the API, never
// from DNS, so a LAN with its own view of the zone does not disturb it.
type solver struct {
	api     *apiClient
	storage certmagic.Storage // journal of the records made
	log     *slog.Logger
	asking  singleflight.Group // many names at once need one list of zones

	mu        sync.Mutex // guards all below; never held during I/O
	token     func() (string, error)
	resolvers []string
	account   *account // as last seen; nil = not yet
}

// account is what a token sees. It is never written after it was made.
type account struct {
	digest   tokenDigest
	provider *cloudflare.Provider
	zones    []zone
	seen     time.Time
}

func newSolver(api *apiClient, s certmagic.Storage, log *slog.Logger) *solver {
	return &solver{api: api, storage: s, log: log}
}

// use installs settings for all further steps.
func (s *solver) use(token func() (string, error), resolvers []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token, s.resolvers, s.account = token, resolvers, nil
}

// noZoneError says that a token sees no zone for a name.
type noZoneError struct {
	name    string
	visible []string
}

func (e *noZoneError) Error() string {
	if len(e.visible) == 0 {
		return fmt.Sprintf("no zone for %s: the Cloudflare token sees no zone at all; give it Zone:Read and DNS:Edit on the zone", e.name)
	}
	return fmt.Sprintf("no zone for %s: the Cloudflare token sees only %s; add the zone to its zone resources", e.name, shorten(strings.Join(e.visible, ", ")))
}

// zone finds the zone of name and the account to change it with.
func (s *solver) zone(ctx context.Context, name string) (*account, zone, error) {
	// Zones come and go rarely; a new one is found because a miss asks again.
	const fresh = 10 * time.Minute
	s.mu.Lock()
	token, acc := s.token, s.account
	s.mu.Unlock()
	if token == nil {
		return nil, zone{}, &tokenError{errors.New("no Cloudflare token is configured")}
	}
	value, err := token()
	if err != nil {
		return nil, zone{}, err
	}
	digest := tokenDigest(sha256.Sum256([]byte(value)))
	if acc != nil && acc.digest == digest && time.Since(acc.seen) < fresh {
		if z, ok := zoneOf(name, acc.zones); ok {
			return acc, z, nil
		}
	}
	answer := s.asking.DoChan(string(digest[:]), func() (any, error) { return s.ask(value, digest) })
	select {
	case <-ctx.Done():
		return nil, zone{}, ctx.Err()
	case r := <-answer:
		if r.Err != nil {
			return nil, zone{}, r.Err
		}
		acc = r.Val.(*account)
	}
	z, ok := zoneOf(name, acc.zones)
	if !ok {
		e := &noZoneError{name: name}
		for _, z := range acc.zones {
			e.visible = append(e.visible, z.Name)
		}
		return nil, zone{}, e
	}
	return acc, z, nil
}

// ask learns what a token sees. It serves several orders at once, so it has its
// own time limit instead of one order's context.
func (s *solver) ask(token string, digest tokenDigest) (*account, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	zones, err := s.api.zones(ctx, token)
	if err != nil {
		return nil, err
	}
	acc := &account{
		digest:   digest,
		provider: &cloudflare.Provider{APIToken: token, HTTPClient: s.api},
		zones:    zones,
		seen:     time.Now(),
	}
	s.mu.Lock()
	s.account = acc
	s.mu.Unlock()
	return acc, nil
}

// record is a TXT record that we made, as the journal keeps it.
type record struct {
	Name    string    `json:"name"`  // full, without the last dot
	Value   string    `json:"value"` // unquoted
	Created time.Time `json:"created"`
}

func challengeRecord(c acme.Challenge) record {
	return record{
		Name:    strings.TrimSuffix(c.DNS01TXTRecordName(), "."),
		Value:   c.DNS01KeyAuthorization(),
		Created: time.Now(),
	}
}

// in returns the record as libdns wants it for zone z.
func (r record) in(z zone) (zoneName string, records []libdns.Record) {
	zoneName = z.Name + "."
	return zoneName, []libdns.Record{libdns.TXT{
		Name: libdns.RelativeName(r.Name+".", zoneName),
		Text: r.Value,
		TTL:  time.Minute, // the shortest Cloudflare takes
	}}
}

// Present implements acmez.Solver.
func (s *solver) Present(ctx context.Context, c acme.Challenge) error {
	r := challengeRecord(c)
	acc, z, err := s.zone(ctx, r.Name)
	if err != nil {
		return err
	}
	// Noted before it is made, so that a crash leaves no record unknown to us.
	s.note(ctx, r)
	zoneName, records := r.in(z)
	err = guard(func() error {
		_, err := acc.provider.AppendRecords(ctx, zoneName, records)
		return err
	})
	const identical = 81058 // an earlier try was carried out though its answer was lost
	if err != nil && !hasCode(err, identical) {
		return fmt.Errorf("add TXT record %s: %w", r.Name, err)
	}
	return nil
}

// Wait implements acmez.Waiter.
func (s *solver) Wait(ctx context.Context, c acme.Challenge) error {
	r := challengeRecord(c)
	_, z, err := s.zone(ctx, r.Name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	resolvers := s.resolvers
	s.mu.Unlock()
	v := newVisibility(r, z.NameServers, resolvers, s.log)
	return v.wait(ctx)
}

// CleanUp implements acmez.Solver. It works though ctx has ended: an order taken
// back must not leave its record behind.
func (s *solver) CleanUp(ctx context.Context, c acme.Challenge) error {
	// A quick request with its retries.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return s.remove(ctx, challengeRecord(c))
}

func (s *solver) remove(ctx context.Context, r record) error {
	acc, z, err := s.zone(ctx, r.Name)
	if err != nil {
		return fmt.Errorf("remove TXT record %s: %w", r.Name, err)
	}
	zoneName, records := r.in(z)
	var gone []libdns.Record
	err = guard(func() error {
		gone, err = acc.provider.DeleteRecords(ctx, zoneName, records)
		return err
	})
	const absent = 81044 // an earlier try was carried out though its answer was lost
	if hasCode(err, absent) {
		err = nil
	}
	if err == nil && len(gone) == 0 {
		err = s.confirmGone(ctx, z, r)
	}
	if err != nil {
		return fmt.Errorf("remove TXT record %s: %w", r.Name, err)
	}
	s.forget(ctx, r)
	return nil
}

// confirmGone looks a record up that libdns did not find: libdns takes every
// error of its own look-up for "not there".
func (s *solver) confirmGone(ctx context.Context, z zone, r record) error {
	s.mu.Lock()
	source := s.token
	s.mu.Unlock()
	token, err := source()
	if err != nil {
		return err
	}
	var found []struct{ Content string }
	query := url.Values{"type": {"TXT"}, "name": {r.Name}, "content.contains": {r.Value}}
	if _, err := s.api.call(ctx, http.MethodGet, token, "/zones/"+url.PathEscape(z.ID)+"/dns_records?"+query.Encode(), &found); err != nil {
		return err
	}
	if len(found) > 0 {
		return errors.New("it is still there")
	}
	return nil
}

// guard turns a panic of libdns/cloudflare, which trusts the shape of answers,
// into an error.
func guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("understand Cloudflare's answer: %v", p)
		}
	}()
	return f()
}

// The journal is one small file a record. Losing it costs nothing but an orphan
// in the zone, so its errors are only worth a line.
const journal = "detour/txt"

func (r record) key() string {
	return path.Join(journal, certmagic.StorageKeys.Safe(r.Name+"_"+r.Value)+".json")
}

func (s *solver) note(ctx context.Context, r record) {
	data, err := json.Marshal(r)
	if err == nil {
		err = s.storage.Store(ctx, r.key(), data)
	}
	if err != nil {
		s.log.Warn("TXT record not noted", "name", r.Name, "error", err)
	}
}

func (s *solver) forget(ctx context.Context, r record) {
	if err := s.storage.Delete(ctx, r.key()); err != nil {
		s.log.Warn("TXT record not crossed off", "name", r.Name, "error", err)
	}
}

// sweep removes the records older than age that the journal still holds: those
// of a process that was killed, or whose removal failed.
func (s *solver) sweep(ctx context.Context, age time.Duration) error {
	keys, err := s.storage.List(ctx, journal, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the journal of TXT records: %w", err)
	}
	var errs []error
	for _, key := range keys {
		data, err := s.storage.Load(ctx, key)
		if err != nil {
			continue // removed meanwhile
		}
		var r record
		if err := json.Unmarshal(data, &r); err != nil {
			errs = append(errs, s.storage.Delete(ctx, key))
			continue
		}
		if time.Since(r.Created) > age {
			errs = append(errs, s.remove(ctx, r))
		}
	}
	return errors.Join(errs...)
}

package acme

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// A renewal that the disk refuses halfway leaves the certificate before it as it
// was: certmagic takes back what it has stored already.
func TestRefusedRenewal(t *testing.T) {
	var (
		key  = certmagic.StorageKeys.SitePrivateKey("ca", "shop.example.test")
		cert = certmagic.StorageKeys.SiteCert("ca", "shop.example.test")
		meta = certmagic.StorageKeys.SiteMeta("ca", "shop.example.test")
	)
	// storeAll is certmagic's storeTx.
	storeAll := func(s certmagic.Storage, value string) error {
		var stored []string
		for _, k := range []string{key, cert, meta} {
			if err := s.Store(t.Context(), k, []byte(value)); err != nil {
				for _, k := range stored {
					s.Delete(t.Context(), k)
				}
				return err
			}
			stored = append(stored, k)
		}
		return nil
	}
	t.Parallel()
	for _, refused := range []string{cert, meta} {
		s := newStorage(t.TempDir())
		for _, value := range []string{"first", "second"} {
			if err := storeAll(s, value); err != nil {
				t.Fatal(err)
			}
		}
		file := s.Filename(refused)
		if err := errors.Join(os.Rename(file, file+".aside"), os.Mkdir(file, 0o700)); err != nil {
			t.Fatal(err)
		}
		if err := storeAll(s, "third"); err == nil {
			t.Fatalf("%s was stored; want it refused", refused)
		}
		if err := errors.Join(os.Remove(file), os.Rename(file+".aside", file)); err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{key, cert, meta} {
			if got, err := s.Load(t.Context(), k); string(got) != "second" {
				t.Errorf("with %s refused, %s is %q, %v; want what it was before", refused, k, got, err)
			}
		}

		// What is not being renewed is deleted when that is asked for.
		if err := s.Delete(t.Context(), key); err != nil {
			t.Error(err)
		}
		if _, err := s.Load(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a deleted key is there: %v", err)
		}
	}
}

// Whatever a crash or a bad disk made of the files of a certificate, there is one
// after the next start.
func TestDamagedCertificate(t *testing.T) {
	keys := map[string]func(issuer, name string) string{
		"certificate": certmagic.StorageKeys.SiteCert,
		"key":         certmagic.StorageKeys.SitePrivateKey,
		"notes":       certmagic.StorageKeys.SiteMeta,
	}
	for file, key := range keys {
		for damage, content := range map[string]string{"empty": "", "zero-filled": "\x00\x00\x00\x00", "cut": "{\n-----BEGIN "} {
			t.Run(file+" "+damage, func(t *testing.T) {
				t.Parallel()
				name := damage + "-" + file + ".example.test" // certmagic's queue of orders is one for the whole process
				dir := t.TempDir()
				var m *Manager
				for range 2 {
					m = newManager(t, Options{Storage: dir})
					m.Manage(localSettings(), hosts(name), nil)
					eventually(t, "a certificate", 20*time.Second, func() bool { return m.usable(m.table.Load().orders[name]) })
					if err := m.Close(t.Context()); err != nil {
						t.Fatal(err)
					}
					write(t, m.storage.Filename(key(Local, name)), []byte(content))
				}
			})
		}
	}
}

// A lock of this process is its own until it is given back, whatever its file says
// in the seconds after the clock was set.
func TestOwnLock(t *testing.T) {
	t.Parallel()
	for name, years := range map[string]int{"back": 10, "forward": -10} {
		s := newStorage(t.TempDir())
		if err := s.Lock(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		updated := time.Now().AddDate(years, 0, 0).Format(time.RFC3339)
		write(t, filepath.Join(s.Path, "locks", name+".lock"), fmt.Appendf(nil, `{"updated":%q}`, updated))
		if ok, err := s.TryLock(t.Context(), name); ok || err != nil {
			t.Errorf("TryLock() of a lock of ours, the clock set %s = %v, %v; want false", name, ok, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if err := s.Lock(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Lock() of a lock of ours, the clock set %s = %v; want it waited for", name, err)
		}
		cancel()
		if err := errors.Join(s.Unlock(t.Context(), name), s.Lock(t.Context(), name), s.Unlock(t.Context(), name)); err != nil {
			t.Errorf("a lock that was given back, the clock set %s: %v", name, err)
		}
	}
}

// A lock that a crash left damaged, or that was made when the clock was ahead, is
// nobody's.
func TestLostLock(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"cut":         `{"created":"2026-`,
		"zero-filled": "\x00\x00\x00\x00",
		"ahead":       fmt.Sprintf(`{"updated":%q}`, time.Now().AddDate(10, 0, 0).Format(time.RFC3339)),
		"stale":       fmt.Sprintf(`{"updated":%q}`, time.Now().AddDate(-10, 0, 0).Format(time.RFC3339)),
	} {
		dead := newStorage(t.TempDir())
		if err := dead.Lock(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		s := newStorage(dead.Path)
		write(t, filepath.Join(s.Path, "locks", name+".lock"), []byte(content))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := s.Lock(ctx, name); err != nil {
			t.Errorf("Lock() of one that is %s = %v; want it taken", name, err)
		}
		if err := s.Unlock(ctx, name); err != nil {
			t.Error(err)
		}
	}
}

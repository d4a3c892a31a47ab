package acme_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour/acme"
	"detour/logging"
	"detour/test/pebble"
)

// TestCaddyStorageIsUsed moves a house: what Caddy left in its data directory
// serves here without an order.
func TestCaddyStorageIsUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test", "shop.example.test"), []string{"example.test"})
	w.waitTrusted(m, "blog.example.test")
	w.stop(m)

	// Caddy's tree holds the same three files a certificate, and nothing of ours.
	caddy := filepath.Join(t.TempDir(), "var", "lib", "caddy", ".local", "share", "caddy")
	found, err := filepath.Glob(filepath.Join(w.storage, "certificates", "*", "wildcard_.example.test"))
	if err != nil || len(found) != 1 {
		t.Fatalf("certificates in the storage: %v, %v; want wildcard_.example.test", found, err)
	}
	rel, _ := filepath.Rel(w.storage, found[0])
	if err := os.CopyFS(filepath.Join(caddy, rel), os.DirFS(found[0])); err != nil {
		t.Fatal(err)
	}
	for _, ext := range []string{".crt", ".key", ".json"} {
		if _, err := os.Stat(filepath.Join(caddy, rel, "wildcard_.example.test"+ext)); err != nil {
			t.Error(err)
		}
	}
	w.storage = caddy
	w.settings.Token = func() (string, error) { return "", fmt.Errorf("no token is needed for this") }
	m = w.start()
	m.Manage(w.settings, hosts("blog.example.test", "shop.example.test"), []string{"example.test"})
	w.waitTrusted(m, "blog.example.test", "shop.example.test")
	if got := w.ca.Orders(); got != 1 {
		t.Errorf("orders = %d; want the first one only", got)
	}
}

func TestUnwritableStorageRecovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	// A file where the directory should be: unwritable for root, too.
	w.storage = filepath.Join(w.storage, "storage")
	if err := os.WriteFile(w.storage, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test"), nil)
	if leaf, err := served(m, "blog.example.test"); err != nil || leaf.VerifyHostname("blog.example.test") != nil {
		t.Errorf("served %v, %v; want a local certificate from memory", leaf, err)
	}
	if s := status(m, "blog.example.test"); !strings.Contains(s.Error, "storage "+w.storage+" cannot be written") {
		t.Errorf("Status() = %+v; want the storage named", s)
	}
	root, err := m.LocalRoot()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(w.storage); err != nil {
		t.Fatal(err)
	}
	w.waitTrusted(m, "blog.example.test")
	w.eventually("the error is gone", func() bool { return status(m, "blog.example.test").Error == "" }, func() any { return m.Status() })
	stored, err := os.ReadFile(filepath.Join(w.storage, "pki/authorities/local/root.crt"))
	if err != nil || string(stored) != string(root) {
		t.Errorf("stored root: %v; want the one that was in memory", err)
	}
}

// TestTornCertificate is a crash between the files of one certificate.
func TestTornCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, pebble.Options{})
	m := w.start()
	m.Manage(w.settings, hosts("blog.example.test", "shop.example.test"), nil)
	w.waitTrusted(m, "blog.example.test", "shop.example.test")
	w.stop(m)
	dirs, _ := filepath.Glob(filepath.Join(w.storage, "certificates", "*"))
	if len(dirs) != 1 {
		t.Fatalf("issuers in the storage: %v; want one", dirs)
	}
	other, err := os.ReadFile(filepath.Join(dirs[0], "shop.example.test", "shop.example.test.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dirs[0], "blog.example.test", "blog.example.test.key"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	m = w.start()
	m.Manage(w.settings, hosts("blog.example.test", "shop.example.test"), nil)
	w.waitTrusted(m, "blog.example.test", "shop.example.test")
	if got := w.ca.Orders(); got != 3 {
		t.Errorf("orders = %d; want 3: two, and the torn one anew", got)
	}
}

const childEnv = "DETOUR_TEST_CHILD"

// child is a gateway that does nothing but renew short-lived certificates into
// a storage, so that it can be killed while it writes.
func child() {
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("host%d.example.test", i))
	}
	storage := os.Getenv(childEnv)
	for {
		process := logging.NewProcess(os.Stderr, logging.JSON, slog.LevelError)
		m, err := acme.New(acme.Options{Storage: storage, Log: process.Slog, Zap: process.Zap})
		if err != nil {
			panic(err)
		}
		m.Manage(acme.Settings{Issuers: []acme.Issuer{{CA: acme.Local}}}, hosts(names...), nil)
		fmt.Println("started")
		time.Sleep(100 * time.Millisecond) // the work whose middle the parent hits
		m.Close(context.Background())      // killed anyway
		os.RemoveAll(filepath.Join(storage, "certificates"))
	}
}

// TestKilledWhileWriting kills a process that writes certificates, again and
// again; whatever it leaves behind must not keep the next one from serving.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	storage := t.TempDir()
	for round := range 12 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+storage)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 16)); err != nil { // "started"
			t.Fatal(err)
		}
		time.Sleep(time.Duration(round) * 7 * time.Millisecond) // another moment of the work each time
		cmd.Process.Kill()                                      // it may not be dead already
		cmd.Wait()                                              // killed
	}
	// Nothing that is there under its final name is half a file.
	err := filepath.WalkDir(storage, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch filepath.Ext(path) {
		case ".json":
			if !json.Valid(data) {
				t.Errorf("%s is half written", path)
			}
		case ".crt", ".key":
			if !strings.HasSuffix(string(data), "-----\n") {
				t.Errorf("%s is half written", path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := acme.New(acme.Options{Storage: storage})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(context.Background()) // tested elsewhere
	var names []string
	for i := range 20 {
		names = append(names, fmt.Sprintf("host%d.example.test", i))
	}
	m.Manage(acme.Settings{Issuers: []acme.Issuer{{CA: acme.Local}}}, hosts(names...), nil)
	for _, name := range names {
		if leaf, err := served(m, name); err != nil || leaf.VerifyHostname(name) != nil {
			t.Errorf("served(%q) = %v; want its certificate", name, err)
		}
	}
	// Locks of the killed look stale after ten seconds; then all are stored again.
	w := &world{T: t}
	w.eventually("all certificates are stored", func() bool {
		for _, name := range names {
			base := filepath.Join(storage, "certificates", "local", name, name)
			if _, err := tls.LoadX509KeyPair(base+".crt", base+".key"); err != nil {
				return false
			}
			if _, err := os.Stat(base + ".json"); err != nil {
				return false
			}
		}
		return true
	}, func() any { return m.Status() })
}

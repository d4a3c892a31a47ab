package acme

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// writePair makes certificate files for name signed by another authority.
func writePair(t *testing.T, files pairFiles, name string) {
	t.Helper()
	a := newAuthority(time.Hour)
	if err := a.open(t.Context(), newStorage(t.TempDir())); err != nil {
		t.Fatal(err)
	}
	cert, err := a.standIn(name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := certmagic.PEMEncodePrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, files.key, key)
	write(t, files.cert, append(certPEM(cert.Certificate[0]), certPEM(cert.Certificate[1])...))
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestOwnCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := pairFiles{filepath.Join(dir, "own.crt"), filepath.Join(dir, "own.key")}
	log := &syncBuffer{}
	m := newManager(t, Options{tick: 10 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))})
	subjects := []Subject{{Names: []string{"own.example.test", "alias.example.test"}, CertFile: files.cert, KeyFile: files.key}}
	m.Manage(localSettings(), subjects, nil)
	own := func() *pair { return m.table.Load().pairs[files] }

	if _, err := handshake(t, m, "own.example.test"); err != nil {
		t.Errorf("without the files: %v; want a local certificate", err)
	}
	if s := m.Status()[1]; s.State != StateFailing || !strings.Contains(s.Error, files.cert) {
		t.Errorf("Status() = %+v; want failing, the file named", s)
	}

	writePair(t, files, "own.example.test")
	eventually(t, "the files are read", 20*time.Second, func() bool { return own().cert.Load() != nil })
	first := own().cert.Load()
	eventually(t, "a good state", 20*time.Second, func() bool { return m.Status()[1].State == StateOwn && m.Status()[1].Error == "" })
	if s := m.Status()[0]; !strings.Contains(s.Error, "is not for alias.example.test") {
		t.Errorf("Status() = %+v; want that the certificate is not for the alias", s)
	}

	write(t, files.cert, []byte("garbage"))
	eventually(t, "the bad pair is reported", 20*time.Second, func() bool { return m.Status()[1].Error != "" })
	if own().cert.Load() != first {
		t.Error("a bad new pair replaced the good one")
	}
	eventually(t, "the log says that the old one is kept", 20*time.Second, func() bool { return strings.Contains(log.String(), "keeping the old one") })

	writePair(t, files, "own.example.test")
	eventually(t, "the new pair is served", 20*time.Second, func() bool { return own().cert.Load() != first })

	m.Manage(localSettings(), subjects, nil)
	before := own()
	m.Manage(localSettings(), append(subjects, hosts("more.example.test")...), nil)
	if own() != before {
		t.Error("a reload read unchanged files anew")
	}
}

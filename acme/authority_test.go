package acme

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func openAuthority(t *testing.T, s *storage) *authority {
	t.Helper()
	a := newAuthority(12 * time.Hour)
	if err := a.open(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return a
}

func verify(t *testing.T, a *authority, name string) error {
	t.Helper()
	cert, err := a.standIn(name)
	if err != nil {
		t.Fatal(err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	root, err := a.rootPEM()
	if err != nil {
		t.Fatal(err)
	}
	roots.AppendCertsFromPEM(root)
	intermediate, err := x509.ParseCertificate(cert.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	between.AddCert(intermediate)
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: strings.Replace(name, "*.", "any.", 1)})
	return err
}

func TestAuthorityShape(t *testing.T) {
	t.Parallel()
	s := newStorage(t.TempDir())
	a := openAuthority(t, s)
	a.permit([]string{"blog.example.test", "*.wild.example.test", "192.0.2.7"})
	for _, name := range []string{"blog.example.test", "*.wild.example.test", "192.0.2.7"} {
		if err := verify(t, a, name); err != nil {
			t.Errorf("verify(%q) = %v; want a trusted chain", name, err)
		}
	}
	if err := verify(t, a, "bank.example.org"); err == nil {
		t.Error("the intermediate may speak for bank.example.org; want name constraints")
	}
	a.permit([]string{"bank.example.org"})
	if err := verify(t, a, "bank.example.org"); err != nil {
		t.Errorf("after permit: %v; want a trusted chain", err)
	}
	if err := verify(t, a, "192.0.2.7"); err == nil {
		t.Error("the intermediate may speak for addresses; want none")
	}
	i, err := a.issuing()
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(i.cert.NotAfter); left > intermediateLifetime || left < intermediateLifetime-time.Hour {
		t.Errorf("the intermediate lives %s; want %s", left, intermediateLifetime)
	}
	if left := time.Until(a.root.cert.NotAfter); left < 9*365*24*time.Hour {
		t.Errorf("the root lives %s; want ten years", left)
	}
	info, err := os.Stat(filepath.Join(s.Path, rootKeyKey))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("root key: %v, %v; want mode 0600", info, err)
	}
}

func TestAuthorityIsKept(t *testing.T) {
	t.Parallel()
	s := newStorage(t.TempDir())
	first, second := openAuthority(t, s), openAuthority(t, s)
	if !first.root.cert.Equal(second.root.cert) {
		t.Error("the root changed between two starts")
	}
	// A certificate without its key is the operator's business, not ours.
	if err := s.Delete(t.Context(), rootKeyKey); err != nil {
		t.Fatal(err)
	}
	third := newAuthority(time.Hour)
	if err := third.open(t.Context(), s); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open without the key = %v; want an error that is not ErrNotExist", err)
	}
	if err := verify(t, third, "blog.example.test"); err != nil {
		t.Errorf("without a storage: %v; want a root in memory", err)
	}
	data, err := s.Load(t.Context(), rootCertKey)
	if block, _ := pem.Decode(data); err != nil || block == nil {
		t.Errorf("the lone root certificate was touched: %v", err)
	}
}

func TestConstrain(t *testing.T) {
	t.Parallel()
	var many, unrelated []string
	for i := range 30 {
		many = append(many, fmt.Sprintf("h%d.example.test", i))
		unrelated = append(unrelated, fmt.Sprintf("h%d.test", i))
	}
	tests := []struct {
		name  string
		names []string
		want  []string
	}{
		{"none", nil, nil},
		{"few", []string{"b.test", "a.test"}, []string{"a.test", "b.test"}},
		{"covered", []string{"a.b.test", "b.test", "xb.test"}, []string{"b.test", "xb.test"}},
		{"wildcard", []string{"*.b.test"}, []string{"b.test"}},
		{"many", many, []string{"example.test"}},
		{"many unrelated", unrelated, nil},
	}
	for _, tt := range tests {
		if got := constrain(tt.names); !slices.Equal(got.dns, tt.want) {
			t.Errorf("%s: constrain(%v) = %v; want %v", tt.name, tt.names, got.dns, tt.want)
		}
	}
}

func TestProbe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := newStorage(dir).probe(t.Context()); err != nil {
		t.Errorf("probe = %v; want nil", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("probe left %v, %v; want nothing", left, err)
	}
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	const want = "a part of its path is a file: not a directory"
	if err := newStorage(filepath.Join(file, "storage")).probe(t.Context()); err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("probe below a file = %v; want %q", err, want)
	}
}

func TestLocalRenewal(t *testing.T) {
	t.Parallel()
	m := newManager(t, Options{RenewCheckInterval: 50 * time.Millisecond, leafLifetime: 6 * time.Second})
	m.Manage(localSettings(), hosts("blog.example.test"), nil)
	s := m.table.Load().orders["blog.example.test"]
	eventually(t, "the first certificate", 20*time.Second, func() bool { return m.managed(s) != nil })
	seen := map[string]bool{}
	for end := time.Now().Add(time.Minute); len(seen) < 3; time.Sleep(10 * time.Millisecond) {
		leaf, err := handshake(t, m, "blog.example.test")
		if err != nil {
			t.Fatalf("handshake during renewals: %v", err)
		}
		seen[leaf.SerialNumber.String()] = true
		if time.Now().After(end) {
			t.Fatalf("%d certificates; want renewals", len(seen))
		}
	}
}

func TestManagerCloseTwice(t *testing.T) {
	t.Parallel()
	m := newManager(t, Options{})
	m.Manage(localSettings(), hosts("blog.example.test"), nil)
	for range 2 {
		if err := m.Close(context.Background()); err != nil {
			t.Errorf("Close = %v; want nil", err)
		}
	}
	m.Manage(localSettings(), hosts("late.example.test"), nil)
	m.Retry()
	if _, err := handshake(t, m, "blog.example.test"); err != nil {
		t.Errorf("handshake after Close = %v; want success", err)
	}
}

package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeCertificate makes name.pem and name.key in dir.
func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.org"}}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, name+".pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	write(t, filepath.Join(dir, name+".key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestLoadLooksAtFiles(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir, "one")
	writeCertificate(t, dir, "two")
	write(t, filepath.Join(dir, "token"), "hunter2\n")
	write(t, filepath.Join(dir, "empty"), " \n")
	path := filepath.Join(dir, "proxy.toml")
	write(t, path, `status_page = "https://status.example.net"
[acme]
token_file = "hunter2-pasted-instead-of-a-path"
ca = "https://ca.example.org/directory"
ca_root = "one.key"
eab_key_id = "kid"
eab_key_file = "empty"
[hosts]
"a.example.org" = { upstream = "10.1.1.4", cert = "one.pem", key = "two.key" }
"b.example.org" = { upstream = "10.1.1.4", cert = "`+dir+`/one.pem", key = "one.key" }
"c.example.org" = { upstream = "https://10.1.1.4", upstream_tls = { ca = "." } }
`)
	_, err := Load(path)
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("Load: %v; want Problems", err)
	}
	want := `3:14: acme.token_file: there is no such file
5:11: acme.ca_root: the file holds no certificate in PEM
7:16: acme.eab_key_file: the file is empty
9:51: hosts."a.example.org".cert: and key are no pair: private key does not match public key
11:74: hosts."c.example.org".upstream_tls.ca: the file cannot be read: is a directory`
	if diff := cmp.Diff(want, strings.ReplaceAll(err.Error(), path+":", "")); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}

	write(t, path, `status_page = "https://status.example.net"
acme.token_file = "token"
[hosts]
"b.example.org" = { upstream = "10.1.1.4", cert = "one.pem", key = "one.key" }
`)
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "token"); c.ACME.TokenFile != want || c.File != path {
		t.Errorf("TokenFile = %q, File = %q; want %q, %q", c.ACME.TokenFile, c.File, want, path)
	}
}

// What text cannot be read says nothing about files: their paths still begin
// where the configuration lies.
func TestLoadOfBrokenTextFindsFiles(t *testing.T) {
	dir := t.TempDir()
	writeCertificate(t, dir, "one")
	path := filepath.Join(dir, "proxy.toml")
	write(t, path, `status_page = "https://status.example.net"
[hosts]
"b.example.org" = { upstream = "10.1.1.4", cert = "one.pem", key = "one.key" }
[offline]
nonsense = [
`)
	_, err := Load(path)
	if want := path + ":5:13: syntax error: array is incomplete"; err == nil || err.Error() != want {
		t.Errorf("Load: %v; want %s", err, want)
	}
}

func TestLoadOfWhatIsNoConfiguration(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of no file: %v; want fs.ErrNotExist", err)
	}
	if _, err := Load("/dev/zero"); err == nil || !strings.Contains(err.Error(), "larger than 32 MiB") {
		t.Errorf("Load(/dev/zero): %v; want a refusal", err)
	}
}

func TestFind(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1", "proxy.toml"), filepath.Join(dir, "2.toml")
	if _, err := find(first, second); err == nil || !strings.Contains(err.Error(), first+" nor "+second) {
		t.Errorf("find nothing: %v; want both places named", err)
	}
	write(t, second, "")
	if got, err := find(first, second); got != second || err != nil {
		t.Errorf("find = %q, %v; want %q", got, err, second)
	}
	os.Mkdir(filepath.Dir(first), 0o700)
	write(t, first, "")
	if got, err := find(first, second); got != first || err != nil {
		t.Errorf("find = %q, %v; want %q", got, err, first)
	}
	if got, err := Find("elsewhere.toml"); got != "elsewhere.toml" || err != nil {
		t.Errorf("Find(flag) = %q, %v; want the flag", got, err)
	}
}

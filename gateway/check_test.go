package gateway_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"detour/config"
	"detour/gateway"

	"github.com/google/go-cmp/cmp"
)

func TestCheckCertificates(t *testing.T) {
	cert, _ := serverCertificate()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	own := fmt.Sprintf("cert = %q, key = %q", write("own.crt", "CERTIFICATE", cert.Certificate[0]), write("own.key", "PRIVATE KEY", key))
	path := filepath.Join(dir, "proxy.toml")
	text := fmt.Sprintf(`status_page = "https://status.example.net"
[hosts]
%q = { upstream = "10.1.1.4", %[2]s, aliases = ["alias.example.net"] }
"*.example.net" = { upstream = "10.1.1.4", %[2]s }
"other.example.org" = { upstream = "10.1.1.4" }
`, name, own)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("line 3: the certificate %s is not for alias.example.net", filepath.Join(dir, "own.crt")),
		fmt.Sprintf("line 4: the certificate %s is not for *.example.net", filepath.Join(dir, "own.crt")),
	}
	if diff := cmp.Diff(want, gateway.CheckCertificates(cfg)); diff != "" {
		t.Errorf("CheckCertificates() (-want +got):\n%s", diff)
	}
}

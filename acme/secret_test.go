package acme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTokenSource(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "token")
	write(t, file, []byte("  from-file\r\n"))
	write(t, filepath.Join(dir, "cloudflare_token"), []byte("from-credential\n"))
	empty := filepath.Join(dir, "empty")
	write(t, empty, []byte("\n"))
	tests := []struct {
		name, file           string
		cloudflare, cf, cred string
		want, wantErr        string
	}{
		{name: "file first", file: file, cloudflare: "env", want: "from-file"},
		{name: "CLOUDFLARE_API_TOKEN", cloudflare: " env1 ", cf: "env2", cred: dir, want: "env1"},
		{name: "CF_API_TOKEN", cf: "env2", cred: dir, want: "env2"},
		{name: "credential", cred: dir, want: "from-credential"},
		{name: "nothing", wantErr: "looked at CLOUDFLARE_API_TOKEN, CF_API_TOKEN and at systemd's credential cloudflare_token"},
		{name: "no credential", cred: t.TempDir(), wantErr: "the credential cloudflare_token in"},
		{name: "file absent", file: filepath.Join(dir, "absent"), cloudflare: "env", wantErr: "absent: no such file"},
		{name: "file empty", file: empty, wantErr: "is empty"},
		{name: "quotes", cloudflare: `"cf_secret"`, wantErr: "the Cloudflare token in CLOUDFLARE_API_TOKEN holds"},
		{name: "placeholder", cloudflare: "{env.CF_TOKEN}", wantErr: "holds spaces, quotes or braces"},
		{name: "two words", cloudflare: "Bearer cf_secret", wantErr: "holds spaces"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("CLOUDFLARE_API_TOKEN", tt.cloudflare)
			t.Setenv("CF_API_TOKEN", tt.cf)
			t.Setenv("CREDENTIALS_DIRECTORY", tt.cred)
			got, err := TokenSource(tt.file)()
			switch {
			case tt.wantErr == "":
				if got != tt.want || err != nil {
					t.Errorf("TokenSource(%q) = %q, %v; want %q", tt.file, got, err, tt.want)
				}
			case err == nil || !strings.Contains(err.Error(), tt.wantErr) || strings.Contains(err.Error(), "cf_secret"):
				t.Errorf("TokenSource(%q) = %q, %v; want an error with %q and without the value", tt.file, got, err, tt.wantErr)
			}
		})
	}
	// Asked at each use: a rotated token needs no reload.
	source := TokenSource(file)
	if err := os.WriteFile(file, []byte("rotated"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := source(); got != "rotated" || err != nil {
		t.Errorf("after rotation: %q, %v; want rotated", got, err)
	}
}

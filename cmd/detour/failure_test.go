package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"detour/control"
)

// Who may not read the configuration hears which group may, not a number.
func TestNotReadNamesTheGroup(t *testing.T) {
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, -1, 4242); err != nil {
			t.Skip(err)
		}
	}
	path := filepath.Join(dir, "proxy.toml")
	var stderr bytes.Buffer
	p := &program{stderr: &stderr}
	if got := p.fail(notRead(path, &fs.PathError{Op: "open", Path: path, Err: fs.ErrPermission})); got != exitFailed {
		t.Errorf("fail() = %d; want %d", got, exitFailed)
	}
	if want := "usermod -aG " + control.GroupOf(dir) + " $USER"; !strings.Contains(stderr.String(), want) {
		t.Errorf("fail() printed %q; want %q in it", &stderr, want)
	}
}

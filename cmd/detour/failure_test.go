package main

import (
	"bytes"
	"errors"
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

// The findings about a token stand below each other; nothing else moves the cursor.
func TestFailPrintsEachFinding(t *testing.T) {
	var stderr bytes.Buffer
	p := &program{stderr: &stderr}
	p.fail(usageError(errors.Join(errors.New("no zone for a"), errors.New("no zone for \x1bb")), "another token"))
	if got, want := stderr.String(), "Error: no zone for a\nError: no zone for \\x1bb\nTry: another token\n"; got != want {
		t.Errorf("fail() printed %q; want %q", got, want)
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"detour/config"
)

// kill -9 in the middle of a flip: the file is the old one or the new one.
func TestKilledFlipLeavesTheFileWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.toml")
	var file strings.Builder
	file.WriteString("domain = \"example.test\"\nstatus_page = \"https://status.example.net{uri}\"\n[control]\nsocket = \"control.sock\"\n[hosts]\n")
	for i := range 500 { // large enough for a write to be caught in the middle
		fmt.Fprintf(&file, "host%d = { upstream = \"10.1.1.4:8080\", online = true } # keep me\n", i)
	}
	online := []byte(file.String())
	if err := os.WriteFile(path, online, 0o640); err != nil {
		t.Fatal(err)
	}
	offline, _, err := config.SetOnline(path, online, []string{"host7"}, false)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(i int) *exec.Cmd {
		cmd := exec.Command("detour", []string{"offline", "online"}[i%2], "-c", path, "host7")
		cmd.Env = append(os.Environ(), "GORACE="+noPause)
		return cmd
	}
	began := time.Now()
	if err := errors.Join(flip(0).Run(), flip(1).Run()); err != nil {
		t.Fatal(err)
	}
	whole := time.Since(began) / 2
	const rounds = 40
	killed, done := 0, 0
	for i := range rounds {
		cmd := flip(i)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The kills fall all over a flip's time, and beyond it, however much slower
		// they have become.
		timer := time.AfterFunc(whole*time.Duration(i)*3/rounds, func() { cmd.Process.Kill() })
		if cmd.Wait() == nil {
			done++
		} else {
			killed++
		}
		timer.Stop()
		now, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(now, online) && !bytes.Equal(now, offline) {
			t.Fatalf("round %d: the file is neither the old nor the new one (%d bytes; want %d or %d)", i, len(now), len(online), len(offline))
		}
	}
	if killed == 0 || done == 0 {
		t.Errorf("%d flips killed, %d done; want some of both, or the kills missed the edit", killed, done)
	}
}

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
)

// profiled are the scenarios of a profile when -run does not name others: the
// work of an edge gateway, each for the same CPU time.
var profiled = regexp.MustCompile(`^(a|b|c1|c2|d-gzip|d-zstd|e1|e100-h1|f)$`)

// profile gives detour its load, scenario by scenario, and writes a CPU
// profile of all of it to o.profile, for `go build -pgo`.
func profile(ctx context.Context, o options, dir string, progress io.Writer) error {
	if o.only.String() == "" {
		o.only = profiled
	}
	repo, err := repository()
	if err != nil {
		return err
	}
	fmt.Fprintln(progress, "building detour with a profiler")
	detour := contestant{name: "detour", binary: filepath.Join(dir, "detour"), http3: true, zstd: true, configure: configureDetour}
	if err := buildProfiled(ctx, repo, dir, detour.binary); err != nil {
		return err
	}
	lab, err := settle(dir, o)
	if err != nil {
		return err
	}
	defer lab.close()

	merge := []string{"tool", "pprof", "-proto"}
	for _, s := range selectScenarios(o) {
		fmt.Fprintln(progress, "profile of", s.name)
		path := filepath.Join(dir, s.name+".pprof")
		if err := lab.profile(ctx, detour, s, path); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		merge = append(merge, path)
	}
	merged, err := exec.CommandContext(ctx, "go", merge...).Output()
	if err != nil {
		return fmt.Errorf("merge the profiles: %w", err)
	}
	return renameio.WriteFile(o.profile, merged, 0o644)
}

// buildProfiled builds detour together with profile/profile.go, which the
// program itself does not have: a profiler is nothing for a gateway's ports.
func buildProfiled(ctx context.Context, repo, dir, binary string) error {
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		filepath.Join(repo, "cmd", "detour", "profile.go"): filepath.Join(repo, "bench", "profile", "profile.go"),
	}})
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, overlay, 0o644); err != nil {
		return err
	}
	// Without the profile of last time, so that the result depends on the code alone.
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-pgo=off", "-overlay", path, "-tags", "profile", "-o", binary, "./cmd/detour")
	build.Dir = repo
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build detour: %w\n%s", err, out)
	}
	return nil
}

// profile lets s load c and moves the profile of it to path.
func (l *lab) profile(ctx context.Context, c contestant, s scenario, path string) error {
	t, err := l.start(ctx, c, s.hosts)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer t.process.stop()
	if _, err := s.measure(t); err != nil {
		return errors.Join(err, t.complaints())
	}
	if err := t.process.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
		return err
	}
	// The profiler looks for its end every 100 ms and then finds names for what it saw.
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := os.Rename(filepath.Join(t.site.Dir, "cpu.pprof"), path)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

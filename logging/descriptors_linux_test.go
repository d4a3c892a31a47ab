package logging_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"detour/logging"
)

// Where few descriptors are allowed, the files of many hosts leave most of them to
// visitors and upstreams, and lose no line.
func TestFilesWithFewDescriptors(t *testing.T) {
	var allowed syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &allowed); err != nil {
		t.Fatal(err)
	}
	few := allowed
	few.Cur = 200
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &allowed); err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	dir := t.TempDir()
	const hosts, rounds = 120, 2
	for round := range rounds {
		for host := range hosts {
			requests(files.Sink(logging.SinkOptions{Path: filepath.Join(dir, fmt.Sprintf("h%d.log", host))}))("/")
		}
		eventually(t, "lines in the files", func() bool { return files.Stats().Written == uint64(hosts*(round+1)) })
	}
	open := 0
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir) {
			open++
		}
	}
	if open > 200/4 {
		t.Errorf("%d files are open; want 50 at most", open)
	}
	for host := range hosts {
		name := filepath.Join(dir, fmt.Sprintf("h%d.log", host))
		if text, err := os.ReadFile(name); err != nil || strings.Count(string(text), "\n") != rounds {
			t.Errorf("%s holds %q, %v; want %d lines", name, text, err, rounds)
		}
	}
}

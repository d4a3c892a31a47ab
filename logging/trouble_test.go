package logging_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"detour/logging"
)

func TestFilesRepairAHalfLine(t *testing.T) {
	for _, tt := range []struct{ name, before, kept string }{
		{"crash in a line", `{"a":1}` + "\n" + `{"b":`, `{"a":1}` + "\n"},
		{"crash in the first line", `{"b":`, ""},
		{"long half line", `{"a":1}` + "\n" + strings.Repeat("x", 10000), `{"a":1}` + "\n"},
		{"whole lines", `{"a":1}` + "\n", `{"a":1}` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.log")
			if err := os.WriteFile(path, []byte(tt.before), 0o640); err != nil {
				t.Fatal(err)
			}
			files := logging.NewFiles(slog.New(slog.DiscardHandler))
			requests(files.Sink(logging.SinkOptions{Path: path}))("/")
			if err := files.Close(); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			rest, ok := strings.CutPrefix(string(data), tt.kept)
			if !ok || len(parse(t, []byte(rest))) != 1 {
				t.Errorf("file = %q; want %q and one line", data, tt.kept)
			}
		})
	}
}

func TestFilesFullDisk(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	path := filepath.Join(t.TempDir(), "a.log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	var log processLog
	files := logging.NewFiles(log.logger())
	request := requests(files.Sink(logging.SinkOptions{Path: path}))
	for range 50 {
		request("/lost?no")
	}
	files.Reopen()
	eventually(t, "report", func() bool { return strings.Contains(log.String(), "make room on the disk") })
	if s := files.Stats(); s.Written != 0 || !errors.Is(s.Files[0].Err, syscall.ENOSPC) {
		t.Errorf("Stats() = %+v; want nothing written, ENOSPC", s)
	}

	// There is room again: what was kept in memory is written.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	files.Reopen()
	eventually(t, "all clear", func() bool { return strings.Contains(log.String(), "access log is written again") })
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); err != nil || len(parse(t, data)) != 50 {
		t.Errorf("file = %q, %v; want 50 lines", data, err)
	}
}

// On a small file system that runs full in the middle of lines, every line in
// the file is whole, then and when there is room again.
func TestFilesSmallDisk(t *testing.T) {
	dir := t.TempDir()
	if err := mountTmpfs(dir, 64<<10); err != nil {
		t.Skipf("cannot mount a small tmpfs: %v", err)
	}
	defer unmount(dir)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.log")
	var log processLog
	files := logging.NewFiles(log.logger())
	request := requests(files.Sink(logging.SinkOptions{Path: path}))
	const sent = 150
	for i := range sent {
		request(fmt.Sprintf("/%d", i))
	}
	files.Reopen()
	eventually(t, "the disk is full", func() bool { return files.Stats().Files[0].Err != nil })
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(parse(t, data)); n == 0 || n == sent || data[len(data)-1] != '\n' || uint64(n) != files.Stats().Written {
		t.Errorf("%d whole lines in the file, Written = %d, it ends in %q; want some of %d", n, files.Stats().Written, data[len(data)-1], sent)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	files.Reopen()
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	data, _ = os.ReadFile(path)
	for i, e := range parse(t, data) {
		if want := fmt.Sprintf("/%d", i); e.Request.URI != want {
			t.Fatalf("line %d is %s; want %s", i, e.Request.URI, want)
		}
	}
	if s := files.Stats(); s.Written != sent || s.Dropped != 0 || bytes.Count(data, []byte("\n")) != sent {
		t.Errorf("Stats() = %+v, %d lines in the file; want %d", s, bytes.Count(data, []byte("\n")), sent)
	}
}

// A directory that cannot be written: told once, then once a minute, tried
// again all the time, and told when it is over. Rights do not stop root, a file
// in the directory's place does.
func TestFilesUnwritableDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log processLog
	synctest.Test(t, func(t *testing.T) {
		files := logging.NewFiles(log.logger())
		request := requests(files.Sink(logging.SinkOptions{Path: filepath.Join(dir, "a.log")}))
		request("/")
		count := func() int { return strings.Count(log.String(), "cannot be written") }

		time.Sleep(1100 * time.Millisecond) // the first try
		synctest.Wait()
		if count() != 1 || !strings.Contains(log.String(), "move it away") || !strings.Contains(log.String(), dir) {
			t.Errorf("process log = %s; want one report with path and remedy", log.String())
		}
		time.Sleep(58 * time.Second)
		synctest.Wait()
		if count() != 1 {
			t.Errorf("%d reports within the first minute; want 1:\n%s", count(), log.String())
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if got := count(); got < 10 || got > 11 {
			t.Errorf("%d reports after ten minutes; want one a minute", got)
		}
		if err := files.Close(); err == nil || !errors.Is(err, syscall.ENOTDIR) {
			t.Errorf("Close() = %v; want that a line was lost", err)
		}
	})
}

func TestFilesDirectoryBecomesWritable(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log processLog
	files := logging.NewFiles(log.logger())
	request := requests(files.Sink(logging.SinkOptions{Path: filepath.Join(dir, "a.log")}))
	request("/")
	eventually(t, "report", func() bool { return strings.Contains(log.String(), "cannot be written") })
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	// nobody calls Reopen: the gateway tries by itself
	eventually(t, "all clear", func() bool { return strings.Contains(log.String(), "access log is written again") })
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	if lines, _ := readAll(t, dir); len(lines) != 1 {
		t.Errorf("%d lines; want the one that was kept", len(lines))
	}
}

// A disk that hangs (a FIFO that nobody reads) delays no request, costs a
// bounded amount of memory and one goroutine, and is told of.
func TestFilesHungDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no FIFO here: %v", err)
	}
	var log processLog
	files := logging.NewFiles(log.logger())
	request := requests(files.Sink(logging.SinkOptions{Path: path}))
	before := runtime.NumGoroutine()
	const sent = 10_000
	long := "/" + strings.Repeat("a", 1000)
	var slowest time.Duration
	for range sent {
		start := time.Now()
		request(long)
		slowest = max(slowest, time.Since(start))
	}
	if slowest > 5*time.Second { // a machine may stop for a while, the disk does for ever
		t.Errorf("a request took %v; want no wait", slowest)
	}
	if n := runtime.NumGoroutine() - before; n > 3 {
		t.Errorf("%d more goroutines; want the flush alone", n)
	}
	s := files.Stats()
	if kept := sent - s.Dropped; kept < 2500 || kept > 5000 {
		t.Errorf("Dropped = %d of %d; want about four MiB kept", s.Dropped, sent)
	}
	eventually(t, "report", func() bool { return strings.Contains(log.String(), "access log lines dropped") })
	eventually(t, "the hang is in the status", func() bool {
		err := files.Stats().Files[0].Err
		return err != nil && err.Error() == "the disk does not answer"
	})

	// Somebody reads: what was kept comes through.
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() {
		data, _ := io.ReadAll(reader)
		got <- data
	}()
	eventually(t, "lines come through", func() bool { return files.Stats().Written+s.Dropped == sent })
	if err := files.Stats().Files[0].Err; err != nil {
		t.Errorf("Err = %v when all is written; want nil", err)
	}
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	if n := len(parse(t, <-got)); n != int(sent-s.Dropped) {
		t.Errorf("%d lines came through; want %d", n, sent-s.Dropped)
	}
}

func TestFilesCloseDoesNotHang(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no FIFO here: %v", err)
	}
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	requests(files.Sink(logging.SinkOptions{Path: path}))("/")
	err := files.Close()
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "1 lines lost") {
		t.Errorf("Close() = %v; want the file and its lost line", err)
	}
	if err := files.Close(); err != nil {
		t.Errorf("second Close() = %v; want nil", err)
	}
	// Taking the line lets the flush end: one that went on beside the removal
	// of the directory would make a file in it.
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := reader.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(reader).ReadString('\n'); err != nil {
		t.Errorf("the file's reader got %q, %v; want the line", line, err)
	}
}

// A file that is made early tells of its trouble without a line, once, and is
// made as soon as it can be.
func TestFilesEarly(t *testing.T) {
	dir := t.TempDir()
	way := filepath.Join(dir, "in-the-way")
	if err := os.WriteFile(way, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log processLog
	files := logging.NewFiles(log.logger())
	defer files.Close()
	early := logging.SinkOptions{Path: filepath.Join(way, "blog.log"), Early: true}
	files.Sink(early)
	eventually(t, "the trouble is told", func() bool { return strings.Contains(log.String(), "access log cannot be written") })
	if err := os.Remove(way); err != nil {
		t.Fatal(err)
	}
	files.Sink(early)
	eventually(t, "the file is made", func() bool { _, err := os.Stat(early.Path); return err == nil })
	eventually(t, "the end of the trouble is told", func() bool { return strings.Contains(log.String(), "access log is written again") })

	if err := os.RemoveAll(way); err != nil {
		t.Fatal(err)
	}
	files.Sink(logging.SinkOptions{Path: early.Path})
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(early.Path); err == nil {
		t.Error("a file without a line was made although nobody asked")
	}
}

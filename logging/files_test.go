package logging_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"detour/logging"
)

// requests returns a func that logs one request with that path.
func requests(sink *logging.Sink) func(path string) {
	h := logging.AccessLog(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		func() *logging.Sink { return sink })
	return func(path string) {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
}

// processLog collects what a Files says to the operator.
type processLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (p *processLog) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.Write(b)
}

func (p *processLog) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.buf.String()
}

func (p *processLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(p, nil)) }

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// readAll returns the lines of all files of a directory, unpacked.
func readAll(t *testing.T, dir string) (lines []entry, names []string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name(), ".gz") {
			zr, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatalf("%s: %v", f.Name(), err)
			}
			if data, err = io.ReadAll(zr); err != nil {
				t.Fatalf("%s: %v", f.Name(), err)
			}
		}
		if len(data) > 0 && data[len(data)-1] != '\n' {
			t.Fatalf("%s ends in half a line: %q", f.Name(), data[max(0, len(data)-200):])
		}
		lines = append(lines, parse(t, data)...)
	}
	return lines, names
}

// waitForGzip waits for lumberjack's goroutine: an old file disappears behind
// its .gz.
func waitForGzip(t *testing.T, dir string) {
	t.Helper()
	eventually(t, "old files gzipped", func() bool {
		old, _ := filepath.Glob(filepath.Join(dir, "*-????-??-??T*.log"))
		return len(old) == 0
	})
}

func TestFilesFlushWithinASecondWithoutBeingAsked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.log")
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	defer files.Close()
	start := time.Now()
	requests(files.Sink(logging.SinkOptions{Path: path}))("/")
	if _, err := os.Stat(path); err == nil && time.Since(start) < time.Second {
		t.Error("the file was made with the request, not in the background")
	}
	eventually(t, "line in the file", func() bool { return files.Stats().Written == 1 })
	if took := time.Since(start); took > 6*time.Second { // for a slow machine
		t.Errorf("the line took %v; want about a second", took)
	}
	if data, err := os.ReadFile(path); err != nil || len(parse(t, data)) != 1 {
		t.Errorf("file = %q, %v; want one line", data, err)
	}
}

func TestFilesFlushWhenHalfFull(t *testing.T) {
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	defer files.Close()
	request := requests(files.Sink(logging.SinkOptions{Path: filepath.Join(t.TempDir(), "a.log")}))
	start := time.Now()
	for range 40 {
		request("/" + strings.Repeat("a", 1000))
	}
	eventually(t, "first lines written", func() bool { return files.Stats().Written > 0 })
	if took := time.Since(start); took > 900*time.Millisecond {
		t.Skipf("this machine is too slow to tell: %v", took)
	}
}

func TestFilesMakeDirectoryAndModes(t *testing.T) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "log", "detour")
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	defer files.Close()
	request := requests(files.Sink(logging.SinkOptions{
		Path:     filepath.Join(dir, "blog.log"),
		Rotation: logging.Rotation{MaxSize: 2000, Compress: true},
	}))
	modes := func() string {
		var all []string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				all = append(all, fmt.Sprintf("%v %s", info.Mode(), filepath.Ext(e.Name())))
			}
		}
		slices.Sort(all)
		return strings.Join(slices.Compact(all), ", ")
	}
	request("/first")
	files.Reopen()
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory: %v, %v; want 0750 less the umask 077", info.Mode(), err)
	}
	if got, want := modes(), "-rw-r----- .log"; got != want {
		t.Errorf("modes = %q; want %q", got, want)
	}
	for range 20 {
		request("/more")
	}
	eventually(t, "old files gzipped with the right mode", func() bool {
		request("/poke")
		files.Reopen()
		return strings.Contains(modes(), "-rw-r----- .gz") && !strings.Contains(modes(), "-rw------- .log")
	})
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	waitForGzip(t, dir)
}

func TestFilesRotateToTheByte(t *testing.T) {
	dir := t.TempDir()
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	const maxSize = 5000 // a "megabyte" of lumberjack's is not needed
	request := requests(files.Sink(logging.SinkOptions{
		Path:     filepath.Join(dir, "a.log"),
		Rotation: logging.Rotation{MaxSize: maxSize},
	}))
	for i := range 100 {
		request(fmt.Sprintf("/%d", i))
	}
	request("/" + strings.Repeat("a", maxSize)) // longer than a file may be
	request("/last")
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	lines, names := readAll(t, dir)
	if len(lines) != 102 || len(names) < 5 {
		t.Errorf("%d lines in %d files; want 102 in more", len(lines), len(names))
	}
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(filepath.Join(dir, name)); info.Size() > maxSize && bytes.Count(data, []byte("\n")) > 1 {
			t.Errorf("%s has %d bytes; want at most %d", name, info.Size(), maxSize)
		}
	}
}

// Every line sent is in a file, once, or counted as dropped, while files
// rotate, are gzipped, reopened and renamed by another program.
func TestFilesUnderLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	options := logging.SinkOptions{Path: path, Rotation: logging.Rotation{MaxSize: 300_000, Compress: true}}
	const workers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range workers {
		request := requests(files.Sink(options)) // several Sinks, one file
		wg.Go(func() {
			for i := range each {
				request(fmt.Sprintf("/%d/%d", w, i))
			}
		})
	}
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range 20 {
			_ = os.Rename(path, filepath.Join(dir, fmt.Sprintf("logrotate.%d", i)))
			files.Reopen()
			changed := options
			changed.Rotation.MaxAge = time.Duration(i) * time.Hour
			changed.Rotation.Keep = 1000 + i/5
			files.Sink(changed)
			files.Stats()
		}
	})
	wg.Wait()
	<-done
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	waitForGzip(t, dir)
	lines, _ := readAll(t, dir)
	seen := map[string]bool{}
	for _, e := range lines {
		if seen[e.Request.URI] {
			t.Fatalf("%s is in the log twice", e.Request.URI)
		}
		seen[e.Request.URI] = true
	}
	s := files.Stats()
	if uint64(len(lines)) != s.Written || s.Written+s.Dropped != workers*each {
		t.Errorf("%d lines found, %d written, %d dropped; want %d in all", len(lines), s.Written, s.Dropped, workers*each)
	}
	if s.Dropped > workers*each/2 {
		t.Logf("%d of %d lines dropped: a slow disk", s.Dropped, workers*each)
	}
}

// Settings given last apply: the size at once, the rest with the next open.
func TestFilesApplyChangedRotation(t *testing.T) {
	dir := t.TempDir()
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	defer files.Close()
	options := logging.SinkOptions{Path: filepath.Join(dir, "a.log")}
	request := requests(files.Sink(options))
	count := func() int {
		all, _ := filepath.Glob(filepath.Join(dir, "*"))
		return len(all)
	}
	fill := func() {
		for range 50 {
			request("/")
		}
		files.Reopen()
	}
	if fill(); count() != 1 {
		t.Fatalf("%d files; want 1 without a limit", count())
	}
	options.Rotation.MaxSize = 3000
	files.Sink(options)
	if fill(); count() < 5 {
		t.Fatalf("%d files; want several below the new limit", count())
	}
	options.Rotation.Keep = 2
	files.Sink(options)
	fill()
	eventually(t, "two old files left", func() bool { return count() == 3 })
}

func TestFilesReopenMakesTheFileAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.log")
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	defer files.Close()
	request := requests(files.Sink(logging.SinkOptions{Path: path}))
	request("/1")
	files.Reopen()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	files.Reopen()
	if data, err := os.ReadFile(path); err != nil || len(data) != 0 {
		t.Errorf("new file = %q, %v; want an empty one at once", data, err)
	}
	request("/2")
	files.Reopen()
	if data, _ := os.ReadFile(path); len(parse(t, data)) != 1 || parse(t, data)[0].Request.URI != "/2" {
		t.Errorf("new file = %q; want /2", data)
	}
	// logrotate's copytruncate: no hole is left
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	request("/3")
	files.Reopen()
	if data, _ := os.ReadFile(path); len(parse(t, data)) != 1 || parse(t, data)[0].Request.URI != "/3" {
		t.Errorf("cut file = %q; want /3", data)
	}
}

// A rename without a SIGHUP is noticed too.
func TestFilesNoticeARemovedFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a.log")
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	request := requests(files.Sink(logging.SinkOptions{Path: path}))
	request("/1")
	eventually(t, "first line", func() bool { return files.Stats().Written == 1 })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	request("/2")
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(path); err != nil || len(parse(t, data)) != 1 {
		t.Errorf("file = %q, %v; want one line", data, err)
	}
}

func TestFilesCostNothingWhenIdle(t *testing.T) {
	dir := t.TempDir()
	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	before, open := runtime.NumGoroutine(), descriptors(t, dir)
	paths := map[string]bool{}
	for i := range 1000 {
		path := filepath.Join(dir, fmt.Sprintf("%d.log", i))
		paths[path] = true
		files.Sink(logging.SinkOptions{Path: path})
	}
	if n := runtime.NumGoroutine() - before; n > 0 {
		t.Errorf("a thousand idle files cost %d goroutines; want 0", n)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("%d files were made without a line", len(entries))
	}
	one := filepath.Join(dir, "7.log")
	request := requests(files.Sink(logging.SinkOptions{Path: one}))
	request("/")
	files.Reopen()
	if n := descriptors(t, dir) - open; n != 1 {
		t.Errorf("%d descriptors; want 1 for one written file", n)
	}
	delete(paths, one)
	files.Retain(paths)
	eventually(t, "the file out of use is closed", func() bool { return descriptors(t, dir) == open })
	request("/late") // a request that was in flight
	eventually(t, "late line written", func() bool { return files.Stats().Written == 2 })
	eventually(t, "and closed again", func() bool { return descriptors(t, dir) == open })
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	request("/after")
	if s := files.Stats(); s.Written != 2 || s.Dropped != 1 {
		t.Errorf("Written, Dropped = %d, %d; want 2, 1 (after Close)", s.Written, s.Dropped)
	}
}

// descriptors counts this process's open files below dir.
func descriptors(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc here")
	}
	n := 0
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir) {
			n++
		}
	}
	return n
}

// A file that no host uses any more is not tried for ever: its trouble ends.
func TestFilesGiveUpWhatNobodyUses(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "in-the-way"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var log processLog
	files := logging.NewFiles(log.logger())
	defer files.Close()
	requests(files.Sink(logging.SinkOptions{Path: filepath.Join(dir, "in-the-way", "blog.log")}))("/")
	trouble := func() error { return files.Stats().Files[0].Err }
	eventually(t, "the file is in trouble", func() bool { return trouble() != nil })
	files.Retain(nil)
	eventually(t, "the trouble is over", func() bool { return trouble() == nil })
	if got := files.Stats(); got.Dropped != 1 {
		t.Errorf("%d lines are counted as dropped; want the one that could not be written", got.Dropped)
	}
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	if got := log.String(); !strings.Contains(got, "no host uses the file any more") || strings.Contains(got, "does not keep up") {
		t.Errorf("the process log says %s; want why the line was dropped", got)
	}
}

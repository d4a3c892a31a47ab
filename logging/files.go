package logging

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Bounds of what waits in memory for the disk.
const (
	// maxPending is how much a file's buffer may hold before lines are
	// dropped: a second of three thousand requests, which outlasts the usual
	// stall of an SD card, and thousands that end at once. One line more may be
	// on top of it.
	maxPending = 4 << 20

	// maxAllPending is the same for all files together, so that a thousand
	// hosts on a hung disk do not eat the memory of a small router.
	maxAllPending = 64 << 20

	// openShare: files keep at most one descriptor in four between flushes. Visitors
	// and upstreams need one each, and where few are allowed, the files of a
	// thousand hosts would leave them none.
	openShare = 4

	// flushSize is how much a file collects before it is written without
	// waiting for flushInterval. Writes of that size cost the kernel half of
	// what those of 32 KiB do.
	flushSize = 128 << 10

	// scratchSize is what a line is encoded in. Few are longer than 2 KiB.
	scratchSize = 4 << 10

	// flushInterval is how long a line waits at most: soon enough for a
	// person with tail -f and for fail2ban.
	flushInterval = time.Second
)

// bufferSizes are the sizes of the buffers that files collect lines in. A file
// begins with the smallest, so that a thousand hosts with a visitor now and then
// cost little memory. Of the largest, half is left when a flush begins, for what
// comes while the disk works.
var bufferSizes = [...]int{8 << 10, 64 << 10, 2 * flushSize}

const (
	// reopenWait and closeWait are how long Reopen and Close wait for a disk
	// that does not answer: a reload should not hang, and the service
	// manager kills what does not stop.
	reopenWait = 2 * time.Second
	closeWait  = 5 * time.Second
)

// Files owns the access-log files. A file is opened for its first line, unless
// SinkOptions.Early says otherwise. Its lines are collected in memory and written
// in the background: after a second, earlier when there are many, and on Reopen and
// Close. A file that nobody writes to costs neither a goroutine nor a timer. Files
// may keep a quarter of the process's descriptors; those beyond are opened for each
// flush only.
//
// All methods may be called from any goroutine.
type Files struct {
	log       *slog.Logger
	pending   atomic.Int64 // bytes waiting for the disk, all files
	buffers   [len(bufferSizes)]buffers
	scratches buffers      // of scratchSize, each for one line
	open      atomic.Int64 // files that are open between flushes
	mostOpen  int64        // … and how many may be; the others are closed after each flush

	mu     sync.Mutex       // guards the following; may be held when a file's is taken
	byPath map[string]*file // for the life of the process: see disk.logger
	closed bool
}

// NewFiles returns a Files without any file. log is told about files that
// cannot be written and about lines that were dropped.
func NewFiles(log *slog.Logger) *Files {
	f := &Files{log: log, byPath: map[string]*file{}, scratches: buffers{size: scratchSize}, mostOpen: math.MaxInt64}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		f.mostOpen = int64(min(limit.Cur/openShare, math.MaxInt64))
	}
	for class, size := range bufferSizes {
		f.buffers[class].size = size
	}
	return f
}

// Sink returns a Sink for a file. It never fails and waits for no disk: a place
// that cannot be written is reported in the process log when the first line
// comes, or at once where the options say so, and tried again. The same path
// gives the same file; the Rotation given last applies to it. Several Sinks may
// share a file.
func (f *Files) Sink(o SinkOptions) *Sink {
	path := filepath.Clean(o.Path)
	if o.Rotation.Mode == 0 {
		o.Rotation.Mode = defaultMode
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	one := f.byPath[path]
	if one == nil {
		one = &file{path: path, files: f, closed: f.closed}
		one.disk.path = path
		f.byPath[path] = one
	}
	one.configure(o.Rotation, o.Early)
	return newSink(one, o)
}

// Reopen writes what is buffered, closes every file and opens it again by its
// name, as SIGHUP asks for: after logrotate renamed a file, later lines go to
// the new one. No line is lost. Files that could not be written are tried at
// once. It returns when that is done, but waits at most two seconds for a disk
// that does not answer.
func (f *Files) Reopen() {
	deadline := time.After(reopenWait)
	for _, running := range f.each((*file).reopenNow) {
		select {
		case <-running:
		case <-deadline:
			return
		}
	}
}

// Retain names the files still in use. The others are flushed and closed, and once
// more after each line that a late request still writes; a later Sink takes a file
// back into use.
func (f *Files) Retain(paths map[string]bool) {
	used := make(map[string]bool, len(paths))
	for path, keep := range paths {
		used[filepath.Clean(path)] = keep
	}
	f.each(func(one *file) <-chan struct{} {
		if !used[one.path] {
			one.release()
		}
		return nil
	})
}

// Close writes what is buffered and closes every file. Lines that come later
// are dropped. It waits at most five seconds for a disk that does not answer;
// the error names the files that lost lines then. A second Close does nothing.
func (f *Files) Close() error {
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	deadline := time.After(closeWait)
	late := false
	for _, running := range f.each((*file).closeNow) {
		if late {
			break
		}
		select {
		case <-running:
		case <-deadline:
			late = true
		}
	}
	var errs []error
	f.each(func(one *file) <-chan struct{} {
		one.lastReport()
		if lost, err := one.lost(); lost > 0 {
			errs = append(errs, fmt.Errorf("write access log %s: %d lines lost: %w", one.path, lost, err))
		}
		return nil
	})
	return errors.Join(errs...)
}

// Stats is how the access logs are doing.
type Stats struct {
	Written, Dropped uint64 // lines since the start, all files
	Files            []FileStats
}

// FileStats is how one file is doing.
type FileStats struct {
	Path             string
	Written, Dropped uint64 // lines since the start
	Err              error  // why it cannot be written now; nil = it can
}

// Stats returns counts of this moment, files sorted by path. Lines that wait in
// memory are in neither count.
func (f *Files) Stats() Stats {
	var s Stats
	f.each(func(one *file) <-chan struct{} {
		fs := one.stats()
		s.Written += fs.Written
		s.Dropped += fs.Dropped
		s.Files = append(s.Files, fs)
		return nil
	})
	slices.SortFunc(s.Files, func(a, b FileStats) int { return strings.Compare(a.Path, b.Path) })
	return s
}

// each calls visit for every file and returns the channels it gave, which close
// when the flush that visit started is over.
func (f *Files) each(visit func(*file) <-chan struct{}) []<-chan struct{} {
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.byPath))
	f.mu.Unlock()
	var running []<-chan struct{}
	for _, one := range all {
		if ch := visit(one); ch != nil {
			running = append(running, ch)
		}
	}
	return running
}

// recycle takes a buffer of lines back.
func (f *Files) recycle(b []byte) {
	for class := range f.buffers {
		if f.buffers[class].put(&b) {
			return // it is somebody else's now
		}
	}
}

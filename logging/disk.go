package logging

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
)

// disk is one access-log file on the disk. It belongs to one flush at a time.
//
// lumberjack names, gzips and removes the old files. When to rotate is decided
// here, to the byte, because it counts in MiB; and the file is made here before
// lumberjack opens it, because then it appends (O_APPEND, so that a truncation
// by another program leaves no hole), and has the mode we want.
type disk struct {
	path string

	// logger stays for the life of the process: each lumberjack.Logger has a
	// goroutine that never ends. That goroutine reads the settings without
	// a lock, so changed ones take a new Logger, and leave one idle
	// goroutine behind; it happens only when an operator changes keep,
	// max_age or compress.
	logger  *lumberjack.Logger
	applied retention // what logger was made with

	open     os.FileInfo // identity of the file that is made ready; nil = none
	inUse    bool        // logger has it open, since the first Write
	rotated  time.Time   // last rotation
	millAt   time.Time   // when logger last sent its goroutine to look after old files
	gzipping bool        // … which may still be at it
}

// flushJob is what one flush does.
type flushJob struct {
	lines    []byte // whole lines, each with its line feed
	rotation Rotation
	reopen   bool // open the file anew after the lines, if it is open
	early    bool // make the file even without a line
	close    bool // close the file after the lines
}

// flush writes the job's lines and returns how many bytes of them, always whole
// lines, are in the file. After an error the file holds whole lines only.
func (d *disk) flush(job flushJob) (n int, err error) {
	if d.gzipping {
		d.gzipping = !gzipped(d.path, job.rotation.Mode)
	}
	d.configure(job.rotation)
	wasOpen := d.open != nil
	for n < len(job.lines) {
		m, err := d.write(job.lines[n:], job.rotation)
		n += m
		if err != nil {
			return n, err
		}
	}
	if job.early {
		if _, err := d.ready(job.rotation); err != nil {
			return n, err
		}
	}
	if job.reopen && wasOpen {
		if err := d.shut(); err != nil {
			return n, err
		}
		if _, err := d.ready(job.rotation); err != nil {
			return n, err
		}
	}
	if job.close {
		return n, d.shut()
	}
	return n, nil
}

// millQuiet is how long after its last errand a Logger's goroutine is surely
// idle, if nothing is left to gzip. Two that gzip the same file at the same time
// would remove both copies of it.
const millQuiet = 10 * time.Second

// retention is the part of a Rotation that lumberjack takes care of.
type retention struct {
	keep, days int
	compress   bool
}

// configure takes changed settings over.
func (d *disk) configure(r Rotation) {
	const day = 24 * time.Hour
	want := retention{keep: r.Keep, days: int((r.MaxAge + day - 1) / day), compress: r.Compress}
	if d.logger != nil {
		if d.applied == want {
			return
		}
		bothGzip := d.applied.compress && want.compress
		if bothGzip && (d.gzipping || time.Since(d.millAt) < millQuiet) {
			return // each flush asks again
		}
		_ = d.shut() // every line was handed to the kernel already
	}
	d.logger = &lumberjack.Logger{
		Filename:   d.path,
		MaxSize:    math.MaxInt32, // never by itself
		MaxBackups: want.keep,
		MaxAge:     want.days,
		Compress:   want.compress,
	}
	d.applied = want
	d.gzipping = want.compress // it begins with what was left behind
}

// write writes as many lines as fit into the current file, at least one.
func (d *disk) write(lines []byte, r Rotation) (n int, err error) {
	size, err := d.ready(r)
	if err != nil {
		return 0, err
	}
	piece := fitting(lines, r.MaxSize-size)
	if r.MaxSize <= 0 {
		piece = lines
	} else if len(piece) == 0 && size > 0 {
		return 0, d.rotate()
	} else if len(piece) == 0 {
		piece = lines[:bytes.IndexByte(lines, '\n')+1] // longer than a whole file may be
	}
	if !d.inUse {
		d.inUse = true
		d.millAt = time.Now()
	}
	n, err = d.logger.Write(piece)
	if err == nil {
		return n, nil
	}
	n = bytes.LastIndexByte(piece[:n], '\n') + 1
	_ = d.shut()
	_, _ = d.ready(r) // cuts the half line off; should it fail, the next try does it
	return n, fmt.Errorf("write access log: %w", err)
}

// fitting returns the whole lines at the beginning of lines that fit into room.
func fitting(lines []byte, room int64) []byte {
	if room <= 0 {
		return nil
	}
	if int64(len(lines)) <= room {
		return lines
	}
	return lines[:bytes.LastIndexByte(lines[:room], '\n')+1]
}

// ready makes sure that lumberjack appends to the file of that name, and returns
// its size. It notices a file that another program renamed, removed or truncated.
func (d *disk) ready(r Rotation) (size int64, err error) {
	if d.open != nil {
		info, err := os.Stat(d.path)
		if err == nil && os.SameFile(info, d.open) {
			return info.Size(), nil
		}
		if err := d.shut(); err != nil {
			return 0, err
		}
	}
	info, err := prepare(d.path, r.Mode)
	if err != nil {
		return 0, fmt.Errorf("open access log: %w", err)
	}
	d.open = info
	return info.Size(), nil
}

// shut closes the file.
func (d *disk) shut() error {
	d.open, d.inUse = nil, false
	if d.logger == nil {
		return nil
	}
	if err := d.logger.Close(); err != nil {
		return fmt.Errorf("close access log: %w", err)
	}
	return nil
}

// rotate sets the file aside.
func (d *disk) rotate() error {
	// Old files are named by the millisecond: a second one within it would
	// replace the first.
	time.Sleep(time.Until(d.rotated.Add(2 * time.Millisecond)))
	err := d.logger.Rotate()
	d.rotated = time.Now()
	if closeErr := d.shut(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("rotate access log: %w", err)
	}
	d.millAt = d.rotated
	d.gzipping = d.applied.compress
	return nil
}

// prepare makes the file and its directory if they are absent, gives it its
// mode and cuts off a half line that a crash or a full disk left at its end.
func prepare(path string, mode fs.FileMode) (os.FileInfo, error) {
	// 0750: what visitors do is not for every user of the machine.
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, mode)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() { // a FIFO, /dev/stdout: as they are
		return info, err
	}
	if info.Mode().Perm() != mode {
		_ = f.Chmod(mode) // a file of another user that we may write is good enough
	}
	whole, err := wholeLines(f, info.Size())
	if err != nil {
		return nil, err
	}
	if whole < info.Size() {
		if err := f.Truncate(whole); err != nil {
			return nil, err
		}
		return f.Stat()
	}
	return info, nil
}

// wholeLines returns how much of a file of that size is whole lines: at most
// one line's worth of bytes behind the last line feed are given up. A file
// without a line feed in its last MiB is not ours to cut.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	block := make([]byte, 4<<10)
	for end := size; end > 0 && size-end < 1<<20; {
		n := min(end, int64(len(block)))
		if _, err := f.ReadAt(block[:n], end-n); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(block[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
		if end == 0 {
			return 0, nil // a single half line
		}
	}
	return size, nil
}

// gzipped reports whether lumberjack has gzipped every old file. Those it has
// get their mode, because it makes them under the process's umask.
func gzipped(path string, mode fs.FileMode) bool {
	ext := filepath.Ext(path)
	old, err := filepath.Glob(globQuote(strings.TrimSuffix(path, ext)) + "-????-??-??T??-??-??.???" + globQuote(ext) + "*")
	if err != nil {
		return true
	}
	all := true
	for _, name := range old {
		if !strings.HasSuffix(name, ".gz") {
			all = false
		} else if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() && info.Mode().Perm() != mode {
			_ = os.Chmod(name, mode)
		}
	}
	return all
}

// globQuote keeps a path's own bytes from being a pattern.
func globQuote(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

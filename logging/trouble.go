package logging

import (
	"errors"
	"log/slog"
	"syscall"
	"time"
)

const (
	// reportInterval is how often one file may speak in the process log: an
	// outage of hours should not bury what else happens.
	reportInterval = time.Minute

	// A file that cannot be written is tried again after firstRetry, then after
	// twice that time and so on up to lastRetry, which is not too long for an
	// operator who has just made room.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
)

// trouble is what goes wrong with one file, and what the operator was told
// about it. It is guarded by the file's mu.
type trouble struct {
	err     error         // of the last try; nil = the file can be written
	since   time.Time     // of the first failure in a row
	backoff time.Duration // until the next try; 0 = not failing
	dropped uint64        // lines, since the last report

	told      bool // the process log knows that the file cannot be written
	recovered bool // … and is to be told that it can again
	abandoned bool // … or that nobody tries any more
	last      time.Time
	timer     *time.Timer // calls report
	armed     bool
}

// drop counts a line that is not written. mu is held.
func (f *file) drop() {
	f.dropped++
	f.trouble.dropped++
	f.reportSoon()
}

// failing notes that a try failed. mu is held.
func (f *file) failing(err error) {
	t := &f.trouble
	if t.err == nil {
		t.since = time.Now()
	}
	t.err = err
	t.backoff = min(max(2*t.backoff, firstRetry), lastRetry)
	f.reportSoon()
}

// working notes that a try succeeded. mu is held.
func (f *file) working() {
	t := &f.trouble
	if t.err == nil {
		return
	}
	t.err = nil
	t.backoff = 0
	if t.told {
		t.told = false
		t.recovered = true
		f.reportIn(0)
	}
}

// givenUp notes that nobody tries any more, and what that cost. mu is held.
func (f *file) givenUp(lines uint64) {
	t := &f.trouble
	t.err, t.backoff, t.told = nil, 0, false
	if t.dropped += lines; t.dropped > 0 {
		t.abandoned = true
		f.reportSoon()
	}
}

// reportSoon lets report run as soon as the interval allows. mu is held.
func (f *file) reportSoon() {
	if !f.trouble.armed {
		f.reportIn(max(0, time.Until(f.trouble.last.Add(reportInterval))))
	}
}

// reportIn sets the timer of report, which has a goroutine of its own because
// the process log may block. mu is held.
func (f *file) reportIn(d time.Duration) {
	t := &f.trouble
	if t.timer == nil {
		t.timer = time.AfterFunc(d, f.report)
	} else {
		t.timer.Reset(d)
	}
	t.armed = true
}

// report tells the process log what changed since the last report.
func (f *file) report() {
	f.mu.Lock()
	t := &f.trouble
	now := *t
	t.armed = false
	if now.err != nil || now.recovered || now.dropped > 0 {
		t.last = time.Now()
		t.dropped = 0
		t.recovered = false
		t.abandoned = false
		t.told = now.err != nil
	}
	f.mu.Unlock()

	log := f.files.log.With(slog.String("file", f.path))
	switch {
	case now.err != nil:
		log.Error("access log cannot be written",
			slog.Any("error", now.err),
			slog.String("try", remedy(now.err)),
			slog.Duration("for", time.Since(now.since).Round(time.Second)),
			slog.Uint64("lines_dropped", now.dropped))
	case now.recovered:
		log.Info("access log is written again",
			slog.Duration("after", time.Since(now.since).Round(time.Second)),
			slog.Uint64("lines_dropped", now.dropped))
	case now.abandoned:
		log.Warn("access log lines dropped: no host uses the file any more, and it could not be written",
			slog.Uint64("lines_dropped", now.dropped))
	case now.dropped > 0:
		log.Warn("access log lines dropped: the disk does not keep up",
			slog.Uint64("lines_dropped", now.dropped))
	}
}

// lastReport tells what is still untold when the file closes.
func (f *file) lastReport() {
	f.mu.Lock()
	armed := f.trouble.armed
	if armed {
		f.trouble.timer.Stop()
	}
	f.mu.Unlock()
	if armed {
		f.report()
	}
}

// remedy says what an operator can do about an error.
func remedy(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on the disk"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "let the user that runs the gateway write to this directory"
	case errors.Is(err, syscall.EROFS):
		return "the file system is read-only: choose another log.dir, or add the directory to ReadWritePaths of the unit"
	case errors.Is(err, syscall.ENOTDIR):
		return "a file stands where a directory of this path should be: move it away"
	case errors.Is(err, syscall.EISDIR):
		return "a directory stands where the file should be: move it away"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "raise the limit of open files (LimitNOFILE of the unit)"
	}
	return "nothing to do if it passes; the gateway tries again"
}

package logging

import (
	"bytes"
	"errors"
	"sync"
	"time"
)

// file is one access-log file. Requests add lines to buf under mu, which is
// never held during I/O; a flush, of which there is at most one at a time,
// takes the buffer and writes it while requests fill the next one.
type file struct {
	path  string
	files *Files
	disk  disk // used by the flush alone
	held  bool // used by the flush alone, too: the file is counted in files.open

	mu       sync.Mutex    // guards all that follows
	buf      []byte        // lines that no flush has taken yet
	class    int           // of buf's size: an index of bufferSizes
	out      []byte        // lines a flush took and could not write so far; only a flush changes it
	running  chan struct{} // closed when the flush that runs is over; nil = none runs
	asked    time.Time     // when the disk was asked for what it has not done yet; zero = it has
	timer    *time.Timer   // starts a flush; nil until the first line
	armed    bool          // timer runs
	rotation Rotation
	reopen   bool // the next flush closes the disk file and opens it again
	early    bool // flushes make the file even without a line, until it is there
	released bool // no host uses the file: it is closed after each flush
	closed   bool // lines are dropped

	written, dropped uint64 // lines
	trouble          trouble
}

// add appends a line. It never waits for the disk; when the disk does not keep
// up, the line is dropped and counted.
//
// The line is encoded before the lock is taken: a copy costs little, while
// encoding would make the cores that serve a busy host wait for one another.
func (f *file) add(l *line) {
	scratch := f.files.scratches.get()
	defer f.files.scratches.put(scratch)
	*scratch = l.append(*scratch)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		f.dropped++
		return
	}
	if len(f.buf) >= maxPending || f.files.pending.Load() >= maxAllPending {
		f.drop()
		return
	}
	f.collect(*scratch)
	f.files.pending.Add(int64(len(*scratch)))

	switch {
	case f.running != nil || f.trouble.backoff > 0:
		// the flush looks again before it ends; a failed one set the timer
	case len(f.buf) >= flushSize:
		f.start()
	case !f.armed:
		f.arm(flushInterval)
	}
}

// collect appends a line to buf. mu is held.
func (f *file) collect(line []byte) {
	if f.buf == nil {
		f.buf = *f.files.buffers[f.class].get()
	}
	for len(f.buf)+len(line) > cap(f.buf) && f.class+1 < len(bufferSizes) {
		small := f.buf
		f.class++
		f.buf = append(*f.files.buffers[f.class].get(), small...)
		f.files.recycle(small)
	}
	f.buf = append(f.buf, line...)
}

// take returns buf for a flush. The next one is smaller if this one was too
// large by far. mu is held.
func (f *file) take() []byte {
	taken := f.buf
	f.buf = nil
	if f.class > 0 && len(taken) < bufferSizes[f.class-1]/2 {
		f.class--
	}
	return taken
}

// arm sets the timer. mu is held.
func (f *file) arm(d time.Duration) {
	f.armed = true
	if f.timer == nil {
		f.timer = time.AfterFunc(d, f.tick)
		return
	}
	f.timer.Reset(d)
}

func (f *file) tick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.armed { // else a flush started meanwhile
		f.start()
	}
}

// start begins a flush if none runs. mu is held.
func (f *file) start() <-chan struct{} {
	if f.armed {
		f.armed = false
		f.timer.Stop()
	}
	if f.running == nil {
		f.running = make(chan struct{})
		go f.flush(f.running)
	}
	return f.running
}

// flush writes buffers until little is left. Files waits for it in Close.
func (f *file) flush(done chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		f.flushOnce()
		if again := f.next(); !again {
			break
		}
	}
	f.running = nil
	close(done)
}

// flushOnce writes one buffer. mu is held, except while the disk works.
func (f *file) flushOnce() {
	if len(f.out) == 0 {
		f.out = f.take()
	}
	out := f.out
	job := flushJob{
		lines:    out,
		rotation: f.rotation,
		reopen:   f.reopen,
		early:    f.early,
		close:    f.closed || f.released || !f.hold(),
	}
	f.reopen = false
	f.asked = time.Now()

	f.mu.Unlock()
	n, err := f.disk.flush(job)
	lines := uint64(bytes.Count(out[:n], []byte{'\n'}))
	if f.held && !f.disk.inUse {
		f.held = false
		f.files.open.Add(-1)
	}
	f.mu.Lock()

	f.asked = time.Time{}
	f.written += lines
	f.files.pending.Add(-int64(n))
	f.out = out[n:]
	if err != nil {
		f.failing(err)
		return
	}
	f.working()
	f.early = f.early && !job.early
	f.out = nil
	f.files.recycle(out)
}

// hold reports whether the file may stay open after the flush.
func (f *file) hold() bool {
	if !f.held {
		f.held = f.files.open.Add(1) <= f.files.mostOpen
		if !f.held {
			f.files.open.Add(-1)
		}
	}
	return f.held
}

// next reports whether the flush goes on at once; if not, it sets the timer for
// what is left. mu is held.
func (f *file) next() bool {
	left := len(f.out) + len(f.buf)
	switch {
	case f.closed:
		return left > 0 && f.trouble.err == nil
	case f.released && f.trouble.err != nil:
		f.abandon()
	case f.reopen, (f.early || len(f.buf) >= flushSize) && f.trouble.err == nil:
		return true
	case f.trouble.err != nil:
		f.arm(f.trouble.backoff)
	case left > 0:
		f.arm(flushInterval)
	}
	return false
}

// abandon gives up the lines of a file that no host uses any more and that cannot
// be written. mu is held.
func (f *file) abandon() {
	lines := uint64(bytes.Count(f.out, []byte{'\n'}) + bytes.Count(f.buf, []byte{'\n'}))
	f.files.pending.Add(-int64(len(f.out) + len(f.buf)))
	f.out, f.buf, f.early = nil, nil, false
	f.dropped += lines
	f.givenUp(lines)
}

// configure puts the file into use with these settings.
func (f *file) configure(r Rotation, early bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rotation = r
	f.released = false
	if early && !f.closed {
		f.early = true
		f.start()
	}
}

// release takes the file out of use.
func (f *file) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.released && !f.closed {
		f.released = true
		f.start()
	}
}

// reopenNow starts a flush that opens the file anew.
func (f *file) reopenNow() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.reopen = true
	return f.start()
}

// closeNow starts the last flush.
func (f *file) closeNow() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return f.start()
}

// lost counts the lines that a closed file could not write.
func (f *file) lost() (lines int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	lines = bytes.Count(f.out, []byte{'\n'}) + bytes.Count(f.buf, []byte{'\n'})
	if f.trouble.err == nil {
		return lines, errNoAnswer
	}
	return lines, f.trouble.err
}

var errNoAnswer = errors.New("the disk does not answer")

func (f *file) stats() FileStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.trouble.err
	if err == nil && !f.asked.IsZero() && time.Since(f.asked) > reopenWait {
		err = errNoAnswer
	}
	return FileStats{Path: f.path, Written: f.written, Dropped: f.dropped, Err: err}
}

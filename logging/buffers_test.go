package logging

import (
	"bytes"
	"log/slog"
	"testing"
)

// A file's buffer is as large as what comes in between two flushes needs.
func TestBufferFollowsTheTraffic(t *testing.T) {
	files := NewFiles(slog.New(slog.DiscardHandler))
	f := &file{files: files}
	line := bytes.Repeat([]byte{'x'}, 1<<10)
	second := func(lines int) (size int) {
		for range lines {
			f.collect(line)
		}
		size = cap(f.buf)
		taken := f.take()
		if len(taken) != lines*len(line) {
			t.Fatalf("%d bytes taken; want %d", len(taken), lines*len(line))
		}
		files.recycle(taken)
		return size
	}
	for _, step := range []struct{ lines, want int }{
		{1, 8 << 10},
		{8, 8 << 10},
		{9, 64 << 10},
		{60, 64 << 10},
		{128, 256 << 10},
		{100, 256 << 10},
		{1, 256 << 10}, // the traffic is over, and the buffer follows
		{1, 64 << 10},
		{1, 8 << 10},
		{0, 0},
		{300, 300 << 10}, // at least: the disk does not keep up
	} {
		got := second(step.lines)
		if got != step.want && (step.lines <= 256 || got < step.lines<<10) {
			t.Errorf("after %d lines of 1 KiB the buffer holds %d KiB; want %d", step.lines, got>>10, step.want>>10)
		}
	}
}

package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestForgetStartup(t *testing.T) {
	before := residentOfFiles(t)
	forgetStartup()
	if after := residentOfFiles(t); after > before*9/10 {
		t.Errorf("%d KiB of files are resident; they were %d", after, before)
	}
}

// A part of the program that was written to, and is read-only since, is not taken
// from the file again: addresses stand there that the dynamic linker put in.
func TestForgetNothingWritten(t *testing.T) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer exe.Close()
	page, err := syscall.Mmap(int(exe.Fd()), 0, os.Getpagesize(), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(page)
	copy(page, "relocated")
	if err := syscall.Mprotect(page, syscall.PROT_READ); err != nil {
		t.Fatal(err)
	}
	forgetStartup()
	if got := string(page[:9]); got != "relocated" {
		t.Errorf("what was written is %q now", got)
	}
}

// residentOfFiles is how many KiB of the files that this process has mapped are
// in its memory.
func residentOfFiles(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	known := false
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "RssFile" && name != "RssShmem" { // a file below /tmp may be in a tmpfs, which counts as shared memory
			continue
		}
		n := 0
		if _, err := fmt.Sscanf(value, "%d kB", &n); err != nil {
			t.Fatalf("/proc/self/status has the line %q", line)
		}
		kib, known = kib+n, true
	}
	if !known {
		t.Skip("this kernel does not say RssFile")
	}
	return kib
}

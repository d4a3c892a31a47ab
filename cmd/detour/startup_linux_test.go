package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestForgetStartup(t *testing.T) {
	before := residentOfFiles(t)
	forgetStartup()
	if after := residentOfFiles(t); after > before*9/10 {
		t.Errorf("%d KiB of files are resident; they were %d", after, before)
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

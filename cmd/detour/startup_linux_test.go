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
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "RssFile: %d kB", &kib); err == nil {
			return kib
		}
	}
	t.Skip("this kernel does not say RssFile")
	return 0
}

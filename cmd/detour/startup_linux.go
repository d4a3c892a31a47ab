package main

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// forgetStartup tells the kernel that the pages of the program's file are not
// needed: starting went through nearly all of them, serving needs fewer (some
// 2.4 MiB, see bench's "start"), and a small machine has better use for the
// rest. What is needed after all comes back from the page cache. It is advice:
// where it cannot be given nothing is lost. Mappings with pages that are no longer
// the file's stay: what is told to be read-only may have been written to before, as
// the dynamic linker does with a part of a position-independent program.
func forgetStartup() {
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, _ := os.Readlink("/proc/self/exe")
	var mapping []string // the first line of a mapping of the program that is as in the file, as far as was read
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// 00400000-00ab5000 r-xp 00000000 fd:00 4711   /usr/bin/detour
		// Size:               6868 kB
		// …
		// VmFlags: rd ex mr mw me
		f := strings.Fields(lines.Text())
		switch {
		case len(f) < 2:
		case !strings.HasSuffix(f[0], ":"):
			if mapping = nil; len(f) == 6 && f[5] == program && !strings.Contains(f[1], "w") {
				mapping = f
			}
		case (f[0] == "Anonymous:" || f[0] == "Swap:") && f[1] != "0":
			mapping = nil
		case f[0] == "VmFlags:" && mapping != nil: // the last one
			first, last, _ := strings.Cut(mapping[0], "-")
			start, startErr := strconv.ParseUint(first, 16, 64)
			end, endErr := strconv.ParseUint(last, 16, 64)
			if startErr != nil || endErr != nil {
				return
			}
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
		}
	}
}

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
// where it cannot be given nothing is lost.
func forgetStartup() {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer maps.Close()
	program, _ := os.Readlink("/proc/self/exe")
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		// 00400000-00ab5000 r-xp 00000000 fd:00 4711   /usr/bin/detour
		f := strings.Fields(lines.Text())
		if len(f) < 6 || f[5] != program || strings.Contains(f[1], "w") { // what is written to is no copy of the file
			continue
		}
		first, last, _ := strings.Cut(f[0], "-")
		start, startErr := strconv.ParseUint(first, 16, 64)
		end, endErr := strconv.ParseUint(last, 16, 64)
		if startErr != nil || endErr != nil {
			return
		}
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(start), uintptr(end-start), syscall.MADV_DONTNEED)
	}
}

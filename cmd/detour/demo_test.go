package main

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Every line that `detour demo` invites to copy is run as it was printed.
func TestDemoLinesWorkAsPrinted(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	demo, out := startDemo(t)

	// What each line must bring, in their order.
	want := []string{
		"Welcome to the shop.",
		"Welcome to the blog.",
		"blog.localhost is offline: visitors go to http://127.0.0.1",
		"302",
		"503",
		"blog.localhost is online: visitors reach 127.0.0.1",
		"generation 4",
		`"host":"shop.localhost`,
	}
	var invited []string
	dir, long := "", 0
	for lines := bufio.NewScanner(out); dir == "" && lines.Scan(); long++ {
		command := strings.TrimSpace(lines.Text())
		for _, tool := range []string{"curl ", "detour ", "tail "} {
			if strings.HasPrefix(command, tool) {
				invited = append(invited, command)
			}
		}
		if _, rest, found := strings.Cut(lines.Text(), "removes "); found {
			dir = strings.TrimSuffix(rest, ".")
		}
	}
	if long > 45 {
		t.Errorf("the demo prints %d lines; want at most 45, a screen", long)
	}
	if len(invited) < len(want) {
		t.Fatalf("the demo invites to %q; want at least %d lines", invited, len(want))
	}
	for i, command := range invited {
		got, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, got)
		}
		if i < len(want) && !strings.Contains(string(got), want[i]) {
			t.Errorf("%s: %s\nwant %q in it", command, got, want[i])
		}
	}

	if err := demo.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("after Ctrl-C: %v; want a clean end", err)
	}
	if _, err := os.Stat(dir); dir == "" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Ctrl-C: Stat(%q) = %v; want it gone", dir, err)
	}
}

// `detour demo | head` ends when head has, and leaves nothing behind.
func TestDemoEndsWithItsReader(t *testing.T) {
	tmp := t.TempDir()
	demo, out := startDemo(t, "TMPDIR="+tmp)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Errorf("the demo's first line is %q, %v", line, err)
	}
	out.Close()
	if err := demo.Wait(); err != nil {
		t.Errorf("after its reader left: %v; want a clean end", err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("after its reader left: ReadDir() = %v, %v; want nothing", left, err)
	}
}

// startDemo starts `detour demo`, which has a minute, and returns what it prints.
func startDemo(t *testing.T, env ...string) (*exec.Cmd, io.ReadCloser) {
	t.Helper()
	demo := exec.Command("detour", "demo")
	demo.Env = append(append(os.Environ(), "GORACE="+noPause), env...)
	demo.Stderr = os.Stderr
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	watchdog := time.AfterFunc(time.Minute, func() { demo.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		demo.Process.Kill() // in vain after Wait
	})
	return demo, out
}

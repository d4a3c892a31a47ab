package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour/control"
)

// The whole program inside the test, with a service manager that listens as
// systemd does for Type=notify-reload.
func TestServiceManagerIsTold(t *testing.T) {
	dir := t.TempDir()
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", filepath.Join(dir, "notify"))
	hears := func(want string) {
		t.Helper()
		manager.SetReadDeadline(time.Now().Add(20 * time.Second))
		buf := make([]byte, 4<<10)
		n, err := manager.Read(buf)
		if err != nil || !regexp.MustCompile(want).Match(buf[:n]) {
			t.Fatalf("the service manager heard %q, %v; want %s", buf[:n], err, want)
		}
	}
	path := filepath.Join(dir, "proxy.toml")
	file := `[hosts]
"blog.example.test" = { upstream = "127.0.0.1:1", status_page = "https://status.example.net" }
[listen]
http = ""
https = "127.0.0.1:0"
grace = "2m"
[acme]
ca = "local"
storage = "state"
[log]
dir = "log"
[control]
socket = "control.sock"
`
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stdout, stderr bytes.Buffer
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, []string{"run", "-c", path}, strings.NewReader(""), &stdout, &stderr) }()

	hears(`^READY=1\nSTATUS=generation 1: 1 host, 0 offline`)
	if _, err := control.NewClient(filepath.Join(dir, "control.sock")).Reload(ctx, control.ReloadOptions{}); err != nil {
		t.Fatal(err)
	}
	hears(`^RELOADING=1\nMONOTONIC_USEC=[0-9]+\n?$`)
	hears(`^READY=1\n`)
	cancel()
	hears(`^STOPPING=1\nEXTEND_TIMEOUT_USEC=140000000$`) // the grace and some
	if status := <-ended; status != exitOK || stdout.Len() > 0 {
		t.Errorf("run = %d with %q on stdout; want 0 and nothing\n%s", status, &stdout, &stderr)
	}
}

// A pipe that JOURNAL_STREAM names, as systemd does with a service's stderr.
func TestJournalIsToldPriorities(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.toml")
	for _, tt := range []struct {
		name, file string
		stream     func(dev, ino uint64) string
		status     int
		want       string // what all lines look like
	}{
		{"a gateway", "[listen]\nhttp = \"\"\nhttps = \"127.0.0.1:0\"\n[acme]\nca = \"local\"\nstorage = \"state\"\n[log]\ndir = \"log\"\n[control]\nsocket = \"control.sock\"\n",
			func(dev, ino uint64) string { return fmt.Sprintf("%d:%d", dev, ino) }, exitOK, `^(<[346]>\{.*\}\n)+$`},
		{"mistakes", "[log]\nkeep = \"x\"\ndirr = \"y\"\n",
			func(dev, ino uint64) string { return fmt.Sprintf("%d:%d", dev, ino) }, exitUsage, `^(<3>/.*\n){2}<3>Error: 2 mistakes in proxy.toml\n$`},
		{"another stream", "[log]\nkeep = \"x\"\ndirr = \"y\"\n",
			func(dev, ino uint64) string { return fmt.Sprintf("%d:%d", dev, ino+1) }, exitUsage, `^/`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := "status_page = \"https://status.example.net\"\n[hosts]\n\"blog.example.test\" = { upstream = \"127.0.0.1:1\" }\n" + tt.file
			if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
				t.Fatal(err)
			}
			journal, stderr, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer journal.Close()
			var stat syscall.Stat_t
			if err := syscall.Fstat(int(stderr.Fd()), &stat); err != nil {
				t.Fatal(err)
			}
			detour := exec.Command("detour", "run", "-c", "proxy.toml")
			detour.Dir = dir
			detour.Stderr = stderr
			detour.Env = append(os.Environ(), "GORACE="+noPause, "NOTIFY_SOCKET=", "JOURNAL_STREAM="+tt.stream(uint64(stat.Dev), stat.Ino))
			if err := detour.Start(); err != nil {
				t.Fatal(err)
			}
			stderr.Close()
			said := bufio.NewReader(journal)
			first, err := said.ReadString('\n')
			if tt.status == exitOK { // else it ends by itself
				detour.Process.Signal(syscall.SIGTERM)
			}
			rest, restErr := io.ReadAll(said)
			detour.Wait()
			if err != nil || restErr != nil || !regexp.MustCompile(tt.want).MatchString(first+string(rest)) {
				t.Errorf("the journal got %q, %v, %v; want %s", first+string(rest), err, restErr, tt.want)
			}
			if got := detour.ProcessState.ExitCode(); got != tt.status {
				t.Errorf("detour run = %d; want %d", got, tt.status)
			}
		})
	}
}

func TestOwns(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, tt := range []struct {
		name, dir string
		want      bool
	}{
		{me.Username, dir, true},
		{me.Username + "2", dir, false},
		{me.Username, filepath.Join(dir, "absent"), false},
	} {
		if got := owns(tt.name, tt.dir); got != tt.want {
			t.Errorf("owns(%q, %q) = %t; want %t", tt.name, tt.dir, got, tt.want)
		}
	}
}

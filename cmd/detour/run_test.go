package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
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

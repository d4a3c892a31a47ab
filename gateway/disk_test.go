package gateway_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"detour/control"
)

// hang has whoever reads the file at path wait, as on a disk that does not
// answer. It returns when somebody does, and the wait ends with the test.
func hang(t *testing.T, path string, begin func()) {
	t.Helper()
	saved := path + ".saved"
	if err := os.Rename(path, saved); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	begin()
	eventually(t, "somebody reads "+path, func() bool {
		// It can be opened so while it is open for reading, and keeps the reader waiting.
		w, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return false
		}
		t.Cleanup(func() {
			os.Rename(saved, path)
			w.Close()
		})
		return true
	})
}

// The disk of the configuration hangs when it is read again. Windows begin all the
// same, and the gateway ends when it should.
func TestHungConfiguration(t *testing.T) {
	for _, test := range []struct {
		name  string
		begin func(r *rig)
	}{
		{"reload", func(r *rig) { go r.Reload(control.ReloadOptions{}) }},
		{"watch", func(*rig) {}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			from := time.Now().Add(4 * time.Second) // for a slow machine to hang before it
			r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q }\n", says(t, "shop"))+window("shop", from, from.Add(time.Hour), ""))
			data, err := os.ReadFile(r.config)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(r.config, fmt.Appendf(nil, "watch = %t\n%s", test.name == "watch", data), 0o600); err != nil {
				t.Fatal(err)
			}
			r.reload(t)
			hang(t, r.config, func() { test.begin(r) })
			r.becomes(t, "shop", "offline", "window")

			ended := make(chan error, 1)
			go func() { ended <- r.stop() }()
			receive(t, "the end", ended)
		})
	}
}

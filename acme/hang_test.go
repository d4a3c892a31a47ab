package acme

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

// A storage that failed is tried again and hangs. Configurations are taken
// over all the same, and the end comes.
func TestHungStorage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, rootCertKey)
	if err := os.MkdirAll(filepath.Dir(root), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, root, []byte("garbage"))
	m, err := New(Options{Storage: dir, tick: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	// Taking the lock for a new root reads the one that is there.
	lock := filepath.Join(dir, "locks", certmagic.StorageKeys.Safe(rootLock)+".lock")
	if err := os.MkdirAll(filepath.Dir(lock), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(lock, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(root); err != nil {
		t.Fatal(err)
	}
	m.Manage(localSettings(), []Subject{{Names: []string{"shop.example.test"}}}, nil)
	var writer *os.File
	eventually(t, "the lock is read", 20*time.Second, func() bool {
		writer, err = os.OpenFile(lock, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		return err == nil
	})
	defer func() {
		os.Remove(lock) // which is opened more than once
		writer.Close()
		m.owned.Wait() // else they write while the directory is removed
		m.storage.close(context.Background())
	}()

	ended := make(chan error, 1)
	go func() {
		m.Manage(localSettings(), []Subject{{Names: []string{"blog.example.test"}}}, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		ended <- m.Close(ctx)
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Close() = nil; want that the disk does not answer")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("neither a new configuration nor the end gets past a storage that hangs")
	}
	if _, err := handshake(t, m, "blog.example.test"); err != nil {
		t.Error(err)
	}
}

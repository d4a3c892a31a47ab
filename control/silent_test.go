package control

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A gateway that hangs is not waited for as long as a reload may take.
func TestSilentGateway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path) // the kernel connects, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := NewClient(path)
	if c.patience >= reloadTimeout {
		t.Errorf("a gateway that hangs is waited for %s; want less than a reload's %s", c.patience, reloadTimeout)
	}
	c.patience = 50 * time.Millisecond
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), path) {
		t.Errorf("Status() of a gateway that hangs = %v; want ErrSilent and the socket", err)
	}
}

package acme

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"
)

// The gateway starts with a wrong clock, which is then set. What the local CA has
// made by it is made anew, in the same run or in the next.
func TestClockSet(t *testing.T) {
	for _, test := range []struct {
		name    string
		host    string // certmagic's queue of orders is one for the whole process
		off     time.Duration
		restart bool
		newRoot bool
	}{
		{"1970", "a.example.test", time.Until(time.Unix(0, 0)), false, true},
		{"1970, then a restart", "b.example.test", time.Until(time.Unix(0, 0)), true, true},
		{"ahead by a time zone", "c.example.test", 11 * time.Hour, false, false},
		{"ahead by a time zone, then a restart", "d.example.test", 11 * time.Hour, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var off atomic.Int64
			off.Store(int64(test.off))
			dir := t.TempDir()
			begin := func() *Manager {
				m := newManager(t, Options{Storage: dir, now: func() time.Time { return time.Now().Add(time.Duration(off.Load())) }})
				m.Manage(localSettings(), hosts(test.host), nil)
				return m
			}
			ordered := func(m *Manager) bool { return m.managed(m.table.Load().orders[test.host]) != nil }
			good := func(m *Manager) bool {
				leaf, err := handshake(t, m, test.host)
				return err == nil && m.local.alive(leaf, 0)
			}
			m := begin()
			eventually(t, "a certificate", 20*time.Second, func() bool { return ordered(m) })
			root, err := m.LocalRoot()
			if err != nil {
				t.Fatal(err)
			}
			off.Store(0)
			if good(m) {
				t.Fatal("a certificate of the wrong time is good now")
			}
			if test.restart {
				if err := m.Close(t.Context()); err != nil {
					t.Fatal(err)
				}
				m = begin()
			} else {
				m.clockSet()
			}
			eventually(t, "a certificate of now", 20*time.Second, func() bool { return ordered(m) && good(m) })
			if now, err := m.LocalRoot(); err != nil || bytes.Equal(now, root) == test.newRoot {
				t.Errorf("the root is another one: %v, %v; want %v", !bytes.Equal(now, root), err, test.newRoot)
			}
		})
	}
}

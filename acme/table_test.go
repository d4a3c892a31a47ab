package acme

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"
)

func TestCertificateName(t *testing.T) {
	t.Parallel()
	zones := []string{"example.test", "home.example.test"}
	for name, want := range map[string]string{
		"blog.example.test":   "*.example.test",
		"example.test":        "example.test",
		"a.b.example.test":    "a.b.example.test",
		"x.home.example.test": "*.home.example.test",
		"home.example.test":   "*.example.test",
		"*.example.test":      "*.example.test",
		"*.other.test":        "*.other.test",
		"blog.other.test":     "blog.other.test",
	} {
		if got := certificateName(name, zones); got != want {
			t.Errorf("certificateName(%q) = %q; want %q", name, got, want)
		}
	}
}

func TestTableKeepsWhatStays(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	empty := &table{}
	first := empty.replaced(append(hosts("a.test", "*.wild.test"), Subject{Names: []string{"x.wild.test"}}), nil, log)
	if len(first.orders) != 2 {
		t.Errorf("orders = %d; want 2: x.wild.test is covered by *.wild.test", len(first.orders))
	}
	second := first.replaced(hosts("a.test", "b.test"), nil, log)
	if second.hosts["a.test"] != first.hosts["a.test"] || second.orders["a.test"] != first.orders["a.test"] {
		t.Error("a host that stays was made anew")
	}
	if second.lookup("q.wild.test") != nil || first.lookup("q.wild.test") == nil || first.lookup("q.q.wild.test") != nil {
		t.Error("wildcard lookup is wrong")
	}
}

func TestSubjectSchedule(t *testing.T) {
	t.Parallel()
	s := &subject{name: "a.test"}
	s.start(t.Context())
	now := time.Now()
	if s.dead(now) {
		t.Error("dead at once; want patience")
	}
	if !s.dead(now.Add(6 * time.Minute)) {
		t.Error("alive without a sign of life for 6 minutes; want dead")
	}
	for i, want := range []time.Duration{time.Minute, 2 * time.Minute, 2 * time.Minute, 5 * time.Minute} {
		s.ordering()
		if s.dead(now.Add(30 * time.Minute)) {
			t.Error("dead while an order is on its way; want patience")
		}
		_, next := s.orderFailed(errors.New("why"))
		if got := time.Until(next); got > want || got < want-time.Second {
			t.Errorf("failure %d: next try in %s; want %s", i+1, got, want)
		}
		if s.dead(next.Add(time.Minute)) || !s.dead(next.Add(6*time.Minute)) {
			t.Error("want dead some minutes after the next try was due")
		}
	}
	s.issuerFailed("one", "x")
	if got, _ := s.orderFailed(errors.New("y")); got != "one: x" {
		t.Errorf("problem = %q; want each issuer's", got)
	}
	s.fulfilled()
	if problem, next := s.last(); problem != "" || !next.IsZero() {
		t.Errorf("last = %q, %s; want nothing", problem, next)
	}
}

// TestDeadJobIsRevived: an order whose job has ended is started again.
func TestDeadJobIsRevived(t *testing.T) {
	t.Parallel()
	m := newManager(t, Options{})
	m.Manage(localSettings(), hosts("a.test"), nil)
	s := m.table.Load().orders["a.test"]
	eventually(t, "the certificate", 20*time.Second, func() bool { return m.managed(s) != nil })
	s.stop()
	m.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: "a.test"}})
	m.reviveDead(time.Now())
	if m.managed(s) != nil {
		t.Error("a silent job was restarted at once; want patience")
	}
	m.reviveDead(time.Now().Add(10 * time.Minute))
	eventually(t, "the certificate again", 20*time.Second, func() bool { return m.managed(s) != nil })
}

package gateway

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"detour/acme"
	"detour/config"
	"detour/control"
	"detour/logging"
	"detour/proxy"
	"detour/state"
)

// clockwork is one host and a clock that the test moves.
type clockwork struct {
	kept
	facts hostFacts
	now   time.Time
}

func newClockwork(h config.Host) *clockwork {
	return &clockwork{
		facts: hostFacts{host: &h, stats: new(proxy.Stats)},
		now:   time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC),
	}
}

func (c *clockwork) after(d time.Duration) condition {
	c.now = c.now.Add(d)
	return c.decide(c.facts, c.now)
}

func (c *clockwork) expect(t *testing.T, when string, got condition, serving state.Serving, cause state.Cause) {
	t.Helper()
	if got.Serving != serving || got.Cause != cause {
		t.Errorf("%s: %v by %q; want %v by %q", when, got.Serving, got.Cause, serving, cause)
	}
}

// However an upstream flaps, its host changes at most once in the time that
// its probes need to change it, and in the end it follows.
func TestFlappingHost(t *testing.T) {
	health := &config.Health{Interval: 10 * time.Second, Fails: 3, Passes: 2}
	const period = 30 * time.Second
	for _, step := range []time.Duration{time.Second, 7 * time.Second, 31 * time.Second} {
		c := newClockwork(config.Host{Online: true, AutoOffline: true, Health: health})
		c.facts.health = state.Healthy
		before := c.after(0).Serving
		var last time.Time
		for i := range 300 {
			if c.facts.health = state.Healthy; i%2 == 0 {
				c.facts.health = state.Unhealthy
			}
			is := c.after(step).Serving
			if is == before {
				continue
			}
			if !last.IsZero() && c.now.Sub(last) < period {
				t.Fatalf("flapping every %s: changed after %s", step, c.now.Sub(last))
			}
			last, before = c.now, is
		}
		if last.IsZero() {
			t.Errorf("flapping every %s: the host never changed", step)
		}
		c.facts.health = state.Healthy
		c.expect(t, "well for a period", c.after(period), state.Online, "")
	}
}

// A change that is held back is looked at again by itself.
func TestHeldBackChangeIsDue(t *testing.T) {
	c := newClockwork(config.Host{Online: true, AutoOffline: true, Health: &config.Health{Interval: 10 * time.Second, Fails: 3, Passes: 2}})
	c.facts.health = state.Unhealthy
	c.expect(t, "dead from the start", c.after(0), state.Offline, state.ByHealth)
	c.facts.health = state.Healthy
	got := c.after(time.Second)
	c.expect(t, "well a second later", got, state.Offline, state.ByHealth)
	if want := c.now.Add(29 * time.Second); !got.Next.Equal(want) {
		t.Errorf("Next = %s; want %s", got.Next, want)
	}
	c.expect(t, "when it is due", c.after(got.Next.Sub(c.now)), state.Online, "")
}

// A drain lasts while sessions are heard of, and ends a minute after the last.
func TestDrainEndsWhenNobodyIsLeft(t *testing.T) {
	c := newClockwork(config.Host{Online: true})
	c.now = time.Now() // by which requests are counted
	c.expect(t, "before", c.after(0), state.Online, "")
	c.facts.host.Online = false
	c.drain.order(10*time.Minute, c.now)
	got := c.after(0)
	c.expect(t, "the flag went off", got, state.Draining, state.ByFlag)
	if got.Next.Sub(c.now) != drainCheck || got.DrainUntil != c.drain.end || c.drain.cut {
		t.Errorf("in the drain: %+v, cut %v", got, c.drain.cut)
	}
	c.expect(t, "after 59 s", c.after(59*time.Second), state.Draining, state.ByFlag)
	c.expect(t, "after a minute without a session", c.after(time.Second), state.Offline, state.ByFlag)
	if !c.drain.cut {
		t.Error("what is left of the drain is not cut")
	}
	c.expect(t, "and it stays so", c.after(time.Second), state.Offline, state.ByFlag)
	c.facts.host.Online = true
	if c.after(time.Second); c.drain.cut {
		t.Error("a host that came back is cut")
	}
}

// A window that ran to its end is waited for; one that was ended, or taken out
// of the file, or that lies behind the operator's flag is not.
func TestReturning(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(c *clockwork)
		want state.Serving
		by   state.Cause
	}{
		{"its end came", func(c *clockwork) {}, state.Offline, state.ByOverrun},
		{"while the machine slept", func(c *clockwork) { c.now = c.now.Add(9 * time.Hour) }, state.Offline, state.ByOverrun},
		{"its upstream answers", func(c *clockwork) { c.facts.health, c.facts.good = state.Healthy, c.now.Add(2*time.Hour) }, state.Online, ""},
		{"its upstream answered before", func(c *clockwork) { c.facts.health, c.facts.good = state.Healthy, c.now }, state.Offline, state.ByOverrun},
		{"the operator ended it", func(c *clockwork) { c.facts.plans[0].Ended = c.now; c.after(0) }, state.Online, ""},
		{"it was taken out of the file", func(c *clockwork) { c.facts.plans = nil; c.after(0) }, state.Online, ""},
		{"the flag is off", func(c *clockwork) { c.facts.host.Online = false }, state.Offline, state.ByFlag},
		{"the clock was set back before it", func(c *clockwork) { c.now = c.now.Add(-9 * time.Hour) }, state.Online, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClockwork(config.Host{Online: true})
			c.facts.plans = []state.Plan{{From: c.now, Until: c.now.Add(time.Hour)}}
			c.expect(t, "in the window", c.after(0), state.Offline, state.ByWindow)
			test.do(c)
			c.expect(t, "after it", c.after(time.Hour), test.want, test.by)
		})
	}
}

// One window after the other, the clock of Sydney set forward between them.
func TestWindowsAcrossAClockChange(t *testing.T) {
	sydney, err := time.LoadLocation("Australia/Sydney")
	if err != nil {
		t.Skipf("no time zone database: %v", err)
	}
	c := newClockwork(config.Host{Online: true})
	plans, err := plans(&config.Config{TimeZone: sydney, Maintenance: []config.Maintenance{
		{Hosts: []string{"shop"}, Cron: "30 1 * * *", For: 20 * time.Minute},
		{Hosts: []string{"shop"}, Cron: "30 3 * * *", For: 20 * time.Minute},
	}})
	if err != nil {
		t.Fatal(err)
	}
	c.facts.plans = plans["shop"]
	c.now = time.Date(2026, 10, 4, 1, 0, 0, 0, sydney)
	c.facts.health, c.facts.good = state.Healthy, c.now.AddDate(1, 0, 0) // nothing to wait for
	var got []string
	for range 4 {
		next := c.after(0).Next
		c.after(next.Sub(c.now))
		got = append(got, c.now.In(sydney).Format("15:04 MST ")+c.serving.String())
	}
	want := []string{"01:30 AEST offline", "01:50 AEST online", "03:30 AEDT offline", "03:50 AEDT online"}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("the host changed at %v; want %v", got, want)
		}
	}
}

// The keeper is awake when a window of Sydney's clock begins and ends, also
// when that clock was changed in between, and asleep the rest of the year.
func TestKeeperIsOnTime(t *testing.T) {
	sydney, err := time.LoadLocation("Australia/Sydney")
	if err != nil {
		t.Skipf("no time zone database: %v", err)
	}
	dir := t.TempDir()
	cfg, err := config.Parse(filepath.Join(dir, "proxy.toml"), []byte(`
domain = "example.test"
status_page = "https://status.example.net{uri}"
time_zone = "Australia/Sydney"
[acme]
ca = "local"
[log]
dir = "log"
[[maintenance]]
hosts = ["shop"]
cron = "0 3 26 3 *"
for = "30m"
drain = "10m"
[[maintenance]]
hosts = ["shop"]
cron = "0 3 27 8 *"
for = "30m"
drain = "10m"
[hosts]
shop = { upstream = "127.0.0.1:1", log = false }
`))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		g := &Gateway{boot: cfg, log: slog.New(slog.DiscardHandler), options: Options{Notify: func(string) {}}, running: t.Context()}
		g.files = logging.NewFiles(g.log)
		defer g.files.Close()
		g.keeper = newKeeper(g)
		snap, err := g.prepare(cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		g.keeper.follow(nil, snap, control.ReloadOptions{}, time.Now())
		snap, _ = g.keeper.settle(snap, time.Now())
		g.handler = proxy.NewHandler(proxy.HandlerOptions{Table: snap.table})
		g.current.Store(snap)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { g.keeper.run(ctx); close(ended) }()
		defer func() { stop(); <-ended }()

		// Time begins on 1 January 2000, in Sydney's summer, which ends on 26
		// March at 03:00 and begins on 27 August at 02:00 (the Olympic Games).
		for _, step := range []struct {
			at   string
			want string
		}{
			{"2000-03-26T01:49:59+11:00", "online"},
			{"2000-03-26T02:49:59+11:00", "online"}, // ten minutes before 03:00, which comes an hour later
			{"2000-03-26T02:49:59+10:00", "online"},
			{"2000-03-26T02:50:01+10:00", "draining"},
			{"2000-03-26T03:00:01+10:00", "offline window"},
			{"2000-03-26T03:29:59+10:00", "offline window"},
			{"2000-03-26T03:30:01+10:00", "offline overran"},
			{"", "online"},
			{"2000-08-27T01:49:59+10:00", "online"},
			{"2000-08-27T01:50:01+10:00", "draining"},
			{"2000-08-27T03:00:01+11:00", "offline window"},
			{"2000-08-27T03:30:01+11:00", "offline overran"},
		} {
			if step.at == "" { // the operator does not wait for the upstream
				g.swap(g.current.Load(), control.ReloadOptions{Online: []string{"shop.example.test"}})
			} else {
				at, err := time.Parse(time.RFC3339, step.at)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Until(at))
			}
			c := g.current.Load().conditions["shop.example.test"]
			got := c.Serving.String()
			if c.Serving == state.Offline {
				got += " " + string(c.Cause)
			}
			request := httptest.NewRequest("GET", "https://shop.example.test/", nil)
			if served := g.handler.Explain(request, true).State; got != step.want || served != c.Serving.String() {
				t.Errorf("at %s (%s) the host is %s, and served as %s; want %s", step.at, time.Now().In(sydney), got, served, step.want)
			}
		}
	})
}

func TestCertificateTrouble(t *testing.T) {
	now := time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC)
	cfg := &config.Config{TimeZone: time.UTC}
	soon, late := now.Add(9*24*time.Hour), now.Add(11*24*time.Hour)
	for _, test := range []struct {
		name string
		in   acme.Certificate
		want string
	}{
		{"well", acme.Certificate{State: acme.StateValid, NotAfter: late}, ""},
		{"short-lived and well", acme.Certificate{State: acme.StateValid, NotAfter: soon}, ""},
		{"not renewed", acme.Certificate{State: acme.StateValid, NotAfter: soon, Error: "no token"}, "ends on 2026-12-09 22:00 UTC: no token"},
		{"not renewed yet", acme.Certificate{State: acme.StateValid, NotAfter: late, Error: "no token"}, ""},
		{"own, well", acme.Certificate{State: acme.StateOwn, NotAfter: late}, ""},
		{"own, ends", acme.Certificate{State: acme.StateOwn, NotAfter: soon}, "ends on 2026-12-09 22:00 UTC: put a new one in its place"},
		{"local", acme.Certificate{State: acme.StateLocal, NotAfter: now.Add(time.Hour)}, ""},
		{"being ordered", acme.Certificate{State: acme.StatePending}, ""},
		{"failing", acme.Certificate{State: acme.StateFailing, Error: "no token"}, "cannot be had: no token"},
		{"expired", acme.Certificate{State: acme.StateExpired, NotAfter: now.Add(-time.Hour)}, "has expired: it was not renewed"},
	} {
		if got := certificateTrouble(cfg, test.in, now); got != test.want {
			t.Errorf("%s: certificateTrouble() = %q; want %q", test.name, got, test.want)
		}
	}
}

// How long a host has been offline is counted by a stopwatch: nobody has forgotten
// it because a clock that began in 1970 was set.
func TestOfflineByStopwatch(t *testing.T) {
	c := newClockwork(config.Host{})
	c.now = time.Now()
	is := c.after(0)
	if c.since == c.since.Round(0) {
		t.Error("since when it is offline is known by the wall clock only")
	}
	if is.since != is.since.Round(0) {
		t.Error("passes, which are by the wall clock, are compared with another one")
	}
}

func TestByNow(t *testing.T) {
	now := time.Now()
	wall := now.Add(-time.Hour).Round(0) // of another run
	for _, test := range []struct{ in, want time.Time }{
		{now.Add(-time.Hour), now.Add(-time.Hour)},
		{wall, wall},
		{time.Time{}, time.Time{}},
	} {
		if got := byNow(test.in, now); got != test.want {
			t.Errorf("byNow(%v) = %v; want %v", test.in, got, test.want)
		}
	}
}

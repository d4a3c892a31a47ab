package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"detour/config"
	"detour/control"
	"detour/logging"
	"detour/proxy"
)

// shopName is the host of a story.
const shopName = "shop.example.test"

// story is a gateway with one host, whose file and clock the test moves.
type story struct {
	*testing.T
	g    *Gateway
	dir  string
	snap *snapshot
	now  time.Time
}

// newStory starts at ten in the evening with the entry shop and the further
// tables of the file.
func newStory(t *testing.T, shop, tables string) *story {
	t.Helper()
	g := &Gateway{log: slog.New(slog.DiscardHandler), options: Options{Notify: func(string) {}}}
	dir := t.TempDir() // removed after the files are closed
	g.files = logging.NewFiles(g.log)
	t.Cleanup(func() { g.files.Close() })
	g.keeper = newKeeper(g)
	s := &story{T: t, g: g, dir: dir, now: time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC)}
	g.boot = s.parse(shop, tables)
	s.follow(g.boot, control.ReloadOptions{})
	return s
}

func (s *story) parse(shop, tables string) *config.Config {
	s.Helper()
	cfg, err := config.Parse(filepath.Join(s.dir, "proxy.toml"), fmt.Appendf(nil, `
domain = "example.test"
status_page = "https://status.example.net{uri}"
acme.ca = "local"
log.dir = "log"
%s
[hosts]
shop = { upstream = "127.0.0.1:1", log = false, auto_offline = true, health = { path = "/", interval = "1s", timeout = "1s", fails = 1, passes = 1 }, %s }
`, tables, shop))
	if err != nil {
		s.Fatal(err)
	}
	return cfg
}

func (s *story) follow(cfg *config.Config, o control.ReloadOptions) {
	s.Helper()
	next, err := s.g.prepare(cfg, s.snap)
	if err != nil {
		s.Fatal(err)
	}
	s.g.keeper.follow(s.snap, next, o, s.now)
	s.snap, _ = s.g.keeper.settle(next, s.now)
}

// edit has the gateway read another file; asked is the drain of the command,
// -1 = none.
func (s *story) edit(shop, tables string, asked time.Duration) {
	s.Helper()
	var drain map[string]time.Duration
	if asked >= 0 {
		drain = map[string]time.Duration{shopName: asked}
	}
	s.follow(s.parse(shop, tables), control.ReloadOptions{Drain: drain})
}

const notAsked = time.Duration(-1)

// pass lets time go by, and the keeper look whenever it wants to.
func (s *story) pass(d time.Duration) {
	end := s.now.Add(d)
	for {
		var next time.Time
		if s.snap, next = s.g.keeper.settle(s.snap, s.now); next.IsZero() || next.After(end) {
			break
		}
		s.now = next
	}
	s.now = end
	s.snap, _ = s.g.keeper.settle(s.snap, s.now)
}

// probes say how the upstream is from now on.
func (s *story) probes(healthy bool) {
	checks := make(map[checkKey]*check)
	for _, m := range s.snap.pools[shopName].Members() {
		c := &check{key: checkKey{shopName, m, *s.snap.config.Hosts[0].Health}, stop: func() {}}
		c.streak.Add(healthy, 1, 1)
		if healthy {
			c.good = s.now.Add(time.Millisecond) // just after what was asked for
		}
		checks[c.key] = c
	}
	s.g.keeper.checks.Store(&checks)
	s.pass(0)
}

// is checks how the host is served.
func (s *story) is(want string) {
	s.Helper()
	c := s.snap.conditions[shopName]
	if got := c.Serving.String() + " " + string(c.Cause); got != want {
		s.Errorf("at %s the host is %s; want %s", s.now.Format(time.TimeOnly), got, want)
	}
}

func (s *story) toBeCut() bool { return s.g.keeper.hosts[shopName].drain.cut }

// window of a story, by the clock of its day.
func windowOfDay(from, until, more string) string {
	return fmt.Sprintf("[[maintenance]]\nhosts = [\"shop\"]\nfrom = 2026-11-30T%s:00Z\nuntil = 2026-11-30T%s:00Z\n%s\n", from, until, more)
}

const (
	up   = "online = true, drain = '10m'"
	down = "online = false, drain = '10m'"
)

// Nobody is let in again because the operator takes a host offline that
// already is.
func TestNoDrainOfAnOfflineHost(t *testing.T) {
	t.Run("in a window", func(t *testing.T) {
		tables := windowOfDay("21:00", "22:30", "")
		s := newStory(t, up, tables)
		s.is("offline window")
		s.pass(25 * time.Minute)
		s.edit(down, tables, notAsked)
		s.is("offline flag")
		s.pass(6 * time.Minute)
		s.is("offline flag")
		if s.toBeCut() {
			t.Error("what never drained is cut")
		}
	})
	t.Run("overran", func(t *testing.T) {
		tables := windowOfDay("21:00", "22:30", "")
		s := newStory(t, up, tables)
		s.probes(false)
		s.pass(31 * time.Minute)
		s.is("offline overran")
		s.edit(down, tables, notAsked)
		s.is("offline flag")
	})
	t.Run("unhealthy", func(t *testing.T) {
		s := newStory(t, up, "")
		s.probes(false)
		s.is("offline health")
		s.edit(down, "", 5*time.Minute)
		s.is("offline flag")
	})
	t.Run("all", func(t *testing.T) {
		s := newStory(t, up, "")
		s.probes(false)
		s.edit(up, "offline.all = true", notAsked)
		s.is("offline all")
	})
}

// A drain that is over does not begin again, whatever else happens.
func TestDrainBeginsOnce(t *testing.T) {
	t.Run("quiet, then unhealthy for a while", func(t *testing.T) {
		s := newStory(t, up, "")
		s.probes(true)
		s.edit(down, "", time.Hour)
		s.is("draining flag")
		s.pass(time.Minute)
		s.is("offline flag")
		s.probes(false)
		s.is("offline flag")
		s.pass(5 * time.Minute)
		s.probes(true)
		s.pass(5 * time.Minute)
		s.is("offline flag")
		s.edit(up, "", notAsked)
		s.is("online ")
		s.edit(down, "", notAsked)
		s.is("draining flag")
	})
	t.Run("a window within it", func(t *testing.T) {
		tables := windowOfDay("22:00", "22:01", "drain = '20s'")
		s := newStory(t, up, "")
		s.now = s.now.Add(-30 * time.Second)
		s.edit(up, tables, notAsked)
		s.edit(down, tables, 10*time.Minute)
		s.is("draining flag")
		s.pass(30 * time.Second)
		s.is("offline flag")
		if !s.toBeCut() {
			t.Error("what the window ended is not cut")
		}
		s.pass(time.Minute)
		s.is("offline flag")
	})
	t.Run("one window right behind the other", func(t *testing.T) {
		s := newStory(t, up, windowOfDay("22:10", "22:20", "drain = '30s'")+windowOfDay("22:25", "22:30", "drain = '10m'"))
		s.probes(true)
		s.pass(9*time.Minute + 40*time.Second)
		s.is("draining window")
		s.pass(20 * time.Second)
		s.is("offline window")
		s.pass(11 * time.Minute)
		s.is("offline window")
		s.pass(10 * time.Minute)
		s.is("offline overran")
		s.probes(true)
		s.is("online ")
	})
}

// An upstream that fails in a drain sends nobody away for good: sessions find
// it again when it is back and the drain's time is not over.
func TestHealthInADrain(t *testing.T) {
	s := newStory(t, up, "")
	s.probes(true)
	s.edit(down, "", 10*time.Minute)
	s.pass(30 * time.Second)
	s.probes(false)
	s.is("offline health")
	if s.toBeCut() {
		t.Error("an unhealthy upstream cuts the sessions")
	}
	s.pass(2 * time.Minute) // nobody can be heard of meanwhile
	s.is("offline health")
	s.probes(true)
	s.is("draining flag")
	s.pass(59 * time.Second)
	s.is("draining flag")
	s.probes(false)
	s.is("offline health")
	s.pass(7 * time.Minute)
	s.is("offline flag") // the operator's word again: its time is over
	if !s.toBeCut() {
		t.Error("what is left at the end is not cut")
	}
}

// The drain that a command asks for counts, also when the watcher of the file
// was faster than the command.
func TestAskedDrainWins(t *testing.T) {
	const plain, off = "online = true", "online = false"
	t.Run("over none", func(t *testing.T) {
		s := newStory(t, plain, "")
		s.edit(off, "", notAsked)
		s.is("offline flag")
		s.now = s.now.Add(time.Second)
		s.edit(off, "", 10*time.Minute)
		s.is("draining flag")
		if got, want := s.snap.conditions[shopName].DrainUntil, s.now.Add(10*time.Minute); !got.Equal(want) {
			t.Errorf("DrainUntil = %s; want %s", got, want)
		}
	})
	t.Run("over the host's own", func(t *testing.T) {
		s := newStory(t, up, "")
		s.edit(down, "", notAsked)
		s.is("draining flag")
		s.edit(down, "", 0)
		s.is("offline flag")
		if !s.toBeCut() {
			t.Error("what is left is not cut")
		}
	})
	t.Run("not over one that was asked for", func(t *testing.T) {
		s := newStory(t, plain, "")
		s.edit(off, "", 0)
		s.edit(off, "", 10*time.Minute)
		s.is("offline flag")
	})
	t.Run("not later", func(t *testing.T) {
		s := newStory(t, plain, "")
		s.edit(off, "", notAsked)
		s.pass(time.Minute)
		s.edit(off, "", 10*time.Minute)
		s.is("offline flag")
	})
	t.Run("not over a window", func(t *testing.T) {
		tables := windowOfDay("21:00", "22:30", "")
		s := newStory(t, plain, tables)
		s.edit(off, tables, notAsked)
		s.edit(off, tables, 10*time.Minute)
		s.is("offline flag")
	})
}

// A host that comes back while the end of its drain is under way keeps what is
// in flight.
func TestReturnCallsTheCutOff(t *testing.T) {
	s := newStory(t, up, "")
	s.g.handler = proxy.NewHandler(proxy.HandlerOptions{Table: s.snap.table})
	s.edit(down, "", time.Minute)
	s.pass(time.Minute)
	s.is("offline flag")
	s.g.keeper.cutDrained(context.Background(), s.snap)
	host := s.g.keeper.hosts[shopName]
	if host.callOff == nil {
		t.Fatal("nothing is cut")
	}
	called := false
	cancel := host.callOff
	host.callOff = func() { called = true; cancel() }
	s.pass(time.Second)
	if called {
		t.Error("the cut of a host that stays offline was called off")
	}
	s.edit(up, "", notAsked)
	if !called {
		t.Error("the cut goes on although the host is online")
	}
	s.g.keeper.work.Wait()
}

// After a restart in a window, or behind one that overran, a tester's cookie
// from before is still good: the host has been offline since the window began.
func TestSinceAfterARestart(t *testing.T) {
	for _, test := range []struct{ name, shop, tables, state, since string }{
		{"in a window", up, windowOfDay("21:00", "22:30", "drain = '10m'"), "offline window", "20:50:00"},
		{"in its drain", up, windowOfDay("22:05", "22:30", "drain = '10m'"), "draining window", "21:55:00"},
		{"behind one", up, windowOfDay("21:00", "21:45", ""), "offline overran", "21:00:00"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStory(t, test.shop, test.tables)
			s.is(test.state)
			c := s.snap.conditions[shopName]
			if got := c.since.UTC().Format(time.TimeOnly); got != test.since {
				t.Errorf("since %s; want %s", got, test.since)
			}
		})
	}
	t.Run("a window that is added has no past", func(t *testing.T) {
		s := newStory(t, up, "")
		s.edit(up, windowOfDay("21:00", "22:30", ""), notAsked)
		s.is("offline window")
		if c := s.snap.conditions[shopName]; !c.since.Equal(s.now) {
			t.Errorf("since %s; want %s", c.since, s.now)
		}
	})
}

// A command may end what is still open of a host that is offline, however long it
// has been that.
func TestEndOfWhatIsOpen(t *testing.T) {
	const plain, off = "online = true", "online = false"
	window := windowOfDay("21:00", "22:30", "")
	for _, test := range []struct {
		name           string
		before, tables string
		want           bool
	}{
		{"online", plain, "", false}, // a flip ends nothing
		{"offline", off, "", true},
		{"in a window", plain, window, true},
	} {
		s := newStory(t, test.before, test.tables)
		s.follow(s.parse(off, test.tables), control.ReloadOptions{End: []string{shopName}})
		if got := s.toBeCut(); got != test.want {
			t.Errorf("%s: to be cut = %v; want %v", test.name, got, test.want)
		}
	}
	s := newStory(t, plain, "")
	s.edit(off, "", notAsked)
	s.edit(off, "", 0) // the flip's own command, whose edit the watcher has followed
	if s.toBeCut() {
		t.Error("the flip's own command ends what is open")
	}
	s.follow(s.snap.config, control.ReloadOptions{End: []string{shopName}})
	if !s.toBeCut() {
		t.Error("what is open just after the flip is not ended")
	}
}

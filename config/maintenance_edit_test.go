package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// forms are the ways a file can be written without meaning anything else.
func forms() map[string]func(string) string {
	return map[string]func(string) string{
		"LF":   func(s string) string { return s },
		"CRLF": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"BOM":  func(s string) string { return string(bom) + s },
	}
}

const planHead = "domain = \"example.org\"\nstatus_page = \"https://status.example.net{uri}\"\ntime_zone = \"Australia/Sydney\"\n"
const planHosts = "[hosts]\nshop = { upstream = \"10.1.1.4\", aliases = [\"www\"] }\nblog.upstream = \"10.1.1.5\"\n\"git.example.com\" = { upstream = \"10.1.1.6\", online = false }\n"

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestAddMaintenance(t *testing.T) {
	from, until := at(t, "2026-11-30T11:00:00.9Z"), at(t, "2026-11-30T23:30:00+11:00")
	entry := "[[maintenance]]\nhosts  = [\"shop\"]\nfrom   = 2026-11-30T22:00:00+11:00\nuntil  = 2026-11-30T23:30:00+11:00\n"
	running := "[[maintenance]]\nuntil = 2026-11-30T23:00:00 # or so\nfrom = 2026-11-30T21:00:00\nhosts = [\"www\"]\n"
	tests := []struct {
		name string
		in   string
		m    Maintenance
		want string // all of the file behind planHead
	}{
		{"at the end", planHosts, Maintenance{Hosts: []string{"www"}, From: from, Until: until}, planHosts + "\n" + entry},
		{"behind an empty line", planHosts + "\n", Maintenance{Hosts: []string{"shop.example.org"}, From: from, Until: until}, planHosts + "\n" + entry},
		{"behind a line without end", planHosts + "# end", Maintenance{Hosts: []string{"shop"}, From: from, Until: until}, planHosts + "# end\n\n" + entry},
		{"everything in it", planHosts,
			Maintenance{Hosts: []string{"git.example.com", "blog"}, From: from, Until: until, Drain: 90 * time.Minute, Reason: "a \"b\" \\ \n\t\x00\x7f\u0085é\xff", Line: 7, Ended: map[string]time.Time{"x": from}},
			planHosts + "\n[[maintenance]]\nhosts  = [\"git.example.com\", \"blog\"]\nfrom   = 2026-11-30T22:00:00+11:00\nuntil  = 2026-11-30T23:30:00+11:00\ndrain  = \"1h30m\"\nreason = \"a \\\"b\\\" \\\\ \\n\\t\\u0000\\u007F\\u0085é\ufffd\"\n"},
		{"by cron, for all", planHosts, Maintenance{Hosts: []string{"*"}, Cron: "0 3 * * 0", For: 30 * time.Minute},
			planHosts + "\n[[maintenance]]\nhosts  = [\"*\"]\ncron   = \"0 3 * * 0\"\nfor    = \"30m\"\n"},
		{"the host of all other names alone", planHosts + "\"*\".upstream = \"10.1.1.7\"\n", Maintenance{Hosts: []string{"*.example.org"}, From: from, Until: until},
			planHosts + "\"*\".upstream = \"10.1.1.7\"\n\n" + strings.Replace(entry, "shop", "*.example.org", 1)},
		{"into a list", "maintenance = [ # none yet\n]\n" + planHosts, Maintenance{Hosts: []string{"shop"}, From: from, Until: until},
			"maintenance = [{ hosts  = [\"shop\"], from   = 2026-11-30T22:00:00+11:00, until  = 2026-11-30T23:30:00+11:00 } # none yet\n]\n" + planHosts},
		{"into a list with one", "maintenance = [{hosts = [\"*\"], cron = \"0 3 * * *\", for = \"1h\"}]\n" + planHosts, Maintenance{Hosts: []string{"shop"}, From: from, Until: until},
			"maintenance = [{ hosts  = [\"shop\"], from   = 2026-11-30T22:00:00+11:00, until  = 2026-11-30T23:30:00+11:00 }, {hosts = [\"*\"], cron = \"0 3 * * *\", for = \"1h\"}]\n" + planHosts},
		{"more time", running + planHosts, Maintenance{Hosts: []string{"shop"}, From: from, Until: until},
			strings.Replace(running, "23:00:00", "23:30:00+11:00", 1) + planHosts},
		{"more time, and why", running + planHosts, Maintenance{Hosts: []string{"shop"}, From: from, Until: until, Reason: "slow disk"},
			strings.Replace(running, "23:00:00", "23:30:00+11:00", 1) + "reason = \"slow disk\"\n" + planHosts},
	}
	for _, tt := range tests {
		for form, change := range forms() {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				got, err := AddMaintenance("proxy.toml", []byte(change(planHead+tt.in)), tt.m)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(change(planHead+tt.want), string(got)); diff != "" {
					t.Errorf("AddMaintenance (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestAddMaintenanceRefuses(t *testing.T) {
	from, until := at(t, "2026-11-30T22:00:00+11:00"), at(t, "2026-11-30T23:30:00+11:00")
	running := planHead + planHosts + "[[maintenance]]\nhosts = [\"shop\"]\nfrom = 2026-11-30T21:00:00\nuntil = 2026-11-30T23:00:00\n"
	tests := []struct {
		name, in string
		m        Maintenance
		want     string
	}{
		{"unknown host", planHead + planHosts, Maintenance{Hosts: []string{"shpo"}, From: from, Until: until}, `no host "shpo" (did you mean "shop"?)`},
		{"no host", planHead + planHosts, Maintenance{From: from, Until: until}, "names no host"},
		{"backwards", planHead + planHosts, Maintenance{Hosts: []string{"shop"}, From: until, Until: from}, "the window ends before it begins"},
		{"no time", planHead + planHosts, Maintenance{Hosts: []string{"shop"}}, "needs from and until, or cron and for"},
		{"within another", running, Maintenance{Hosts: []string{"shop"}, From: from, Until: from.Add(time.Minute)}, "overlaps the window of the same host on line 8"},
		{"over a part of another's hosts", running, Maintenance{Hosts: []string{"blog", "shop"}, From: from, Until: until}, "overlaps the window of the same host on line 8"},
		{"before another", running, Maintenance{Hosts: []string{"shop"}, From: from.Add(-2 * time.Hour), Until: until}, "overlaps the window"},
		{"invalid file", "[hosts]\n", Maintenance{Hosts: []string{"shop"}, From: from, Until: until}, "there is no host to serve"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := AddMaintenance("proxy.toml", []byte(tt.in), tt.m)
			if err == nil || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("AddMaintenance = %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestBringOnline(t *testing.T) {
	window := "[[maintenance]]\nhosts = [\"shop\", \"git.example.com\"] # both\nfrom = 2026-11-30T22:00:00\nuntil = 2026-11-30T23:00:00\ndrain = \"10m\"\n"
	weekly := "[[maintenance]]\nhosts = [\"*\"]\ncron = \"0 3 * * 0\"\nfor = \"1h\"\n"
	ended := func(s string) string { return window + "ended  = { " + s + " }\n" }
	tests := []struct {
		name  string
		in    string
		hosts []string
		now   string
		want  string
	}{
		{"only the flag", planHosts + window, []string{"git.example.com"}, "2026-11-30T21:49:59+11:00",
			strings.Replace(planHosts, "false", "true", 1) + window},
		{"nothing to do", planHosts + window, []string{"shop", "blog"}, "2026-11-30T23:30:00+11:00", planHosts + window},
		{"over, and perhaps waited for", planHosts + window, []string{"shop", "blog"}, "2026-11-30T23:00:00+11:00",
			planHosts + ended(`shop = 2026-11-30T23:00:00+11:00`)},
		{"over, and ended", planHosts + ended(`shop = 2026-11-30T23:01:00+11:00`), []string{"shop"}, "2026-11-30T23:10:00+11:00",
			planHosts + ended(`shop = 2026-11-30T23:01:00+11:00`)},
		{"over, and ended early", planHosts + ended(`shop = 2026-11-30T22:01:00+11:00`), []string{"shop"}, "2026-11-30T23:10:00+11:00",
			planHosts + ended(`shop = 2026-11-30T22:01:00+11:00`)},
		{"a window in force", planHosts + window, []string{"www"}, "2026-11-30T11:30:00.123Z",
			planHosts + ended(`shop = 2026-11-30T22:30:00+11:00`)},
		{"in its drain, and the flag", planHosts + window, []string{"git.example.com", "shop"}, "2026-11-30T21:50:00.5+11:00",
			strings.Replace(planHosts, "false", "true", 1) + ended(`"git.example.com" = 2026-11-30T21:50:00+11:00, shop = 2026-11-30T21:50:00+11:00`)},
		{"one host after the other", planHosts + ended(`"git.example.com" = 2026-11-30T22:10:00+11:00`), []string{"shop"}, "2026-11-30T22:30:00+11:00",
			planHosts + ended(`"git.example.com" = 2026-11-30T22:10:00+11:00, shop = 2026-11-30T22:30:00+11:00`)},
		{"ended already", planHosts + ended(`www = 2026-11-30T22:10:00+11:00`), []string{"shop"}, "2026-11-30T22:30:00+11:00",
			planHosts + ended(`www = 2026-11-30T22:10:00+11:00`)},
		{"empty table", planHosts + window + "ended = {}\n", []string{"shop"}, "2026-11-30T22:30:00+11:00",
			planHosts + window + "ended = { shop = 2026-11-30T22:30:00+11:00 }\n"},
		{"dotted", planHosts + window + "ended.\"git.example.com\" = 2026-11-29T00:00:00Z\n", []string{"shop"}, "2026-11-30T22:30:00+11:00",
			planHosts + window + "ended.\"git.example.com\" = 2026-11-29T00:00:00Z\nended.shop = 2026-11-30T22:30:00+11:00\n"},
		{"a table of its own", planHosts + window + "[maintenance.ended] # here\n", []string{"shop"}, "2026-11-30T22:30:00+11:00",
			planHosts + window + "[maintenance.ended] # here\nshop = 2026-11-30T22:30:00+11:00\n"},
		{"by cron, at home", planHosts + weekly, []string{"blog"}, "2026-11-29T03:59:59.9+11:00",
			planHosts + weekly + "ended  = { blog = 2026-11-29T03:59:59+11:00 }\n"},
		{"by cron, just over", planHosts + weekly, []string{"blog"}, "2026-11-29T04:29:59+11:00",
			planHosts + weekly + "ended  = { blog = 2026-11-29T04:29:59+11:00 }\n"},
		{"by cron, over", planHosts + weekly, []string{"blog"}, "2026-11-29T04:30:00+11:00", planHosts + weekly},
		{"by cron, again a week later", planHosts + weekly + "ended = { blog = 2026-11-22T03:10:00+11:00 }\n", []string{"blog"}, "2026-11-29T03:20:00+11:00",
			planHosts + weekly + "ended = { blog = 2026-11-29T03:20:00+11:00 }\n"},
		{"by cron, in the hour the clocks skip", planHosts + strings.Replace(weekly, "0 3 * * 0", "30 2 4 10 *", 1), []string{"blog"}, "2026-10-04T03:40:00+11:00",
			planHosts + strings.Replace(weekly, "0 3 * * 0", "30 2 4 10 *", 1) + "ended  = { blog = 2026-10-04T03:40:00+11:00 }\n"},
		{"by cron, in the first of two hours", planHosts + strings.Replace(weekly, "0 3 * * 0", "30 2 5 4 *", 1), []string{"blog"}, "2026-04-05T02:45:00+11:00",
			planHosts + strings.Replace(weekly, "0 3 * * 0", "30 2 5 4 *", 1) + "ended  = { blog = 2026-04-05T02:45:00+11:00 }\n"},
		{"all are offline", "offline.all = true\n" + planHosts, []string{"git.example.com", "shop"}, "2026-11-30T22:30:00+11:00",
			"offline.all = true\noffline.except = [\"git.example.com\", \"shop\"]  # detour offline --all\n" + strings.Replace(planHosts, "false", "true", 1)},
		{"all but some are offline", "offline = { all = true, except = [\n\"blog\", # ours\n] }\n" + planHosts, []string{"shop", "blog"}, "2026-11-30T22:30:00+11:00",
			"offline = { all = true, except = [\"shop\",  # detour offline --all\n\n\"blog\", # ours\n] }\n" + planHosts},
	}
	for _, tt := range tests {
		for form, change := range forms() {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				in := change(planHead + tt.in)
				got, changes, err := BringOnline("proxy.toml", []byte(in), tt.hosts, at(t, tt.now))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(change(planHead+tt.want), string(got)); diff != "" {
					t.Errorf("BringOnline (-want +got):\n%s", diff)
				}
				before, _ := Parse("p", []byte(in))
				checkBrought(t, before, got, changes, at(t, tt.now))
			})
		}
	}
}

// checkBrought checks that the hosts of changes are online in data at now, and
// that the changes say what was in the way.
func checkBrought(t *testing.T, before *Config, data []byte, changes []Change, now time.Time) {
	t.Helper()
	c, err := Parse("p", data)
	if err != nil {
		t.Fatal(err)
	}
	for _, ch := range changes {
		h := c.Hosts[c.index(ch.Key)]
		if !c.WantsOnline(&h) || !ch.To {
			t.Errorf("%s is offline: flag %v, offline.all %v", h.Key, h.Online, c.Offline.All)
		}
		was := before.Hosts[before.index(ch.Key)]
		if ch.From != was.Online || ch.Excepted != before.TakenByAll(&was) {
			t.Errorf("change %+v; the flag was %v", ch, was.Online)
		}
		ended := 0
		for i := range c.Maintenance {
			if _, ok := before.Maintenance[i].inForce(h.Name, c.TimeZone, now); ok {
				ended++
			}
			if begin, ok := c.Maintenance[i].inForce(h.Name, c.TimeZone, now); ok {
				t.Errorf("%s: the window on line %d is still in force since %s", h.Key, c.Maintenance[i].Line, begin)
			}
		}
		if len(ch.Ended) != ended {
			t.Errorf("%s: %d windows ended; want %d", h.Key, len(ch.Ended), ended)
		}
	}
}

// A window that was ended does not count against a later one.
func TestOfflineAgainAfterOnline(t *testing.T) {
	data := []byte(planHead + planHosts)
	now := at(t, "2026-11-30T22:00:00.7+11:00")
	for range 3 {
		var err error
		data, err = AddMaintenance("p", data, Maintenance{Hosts: []string{"shop"}, From: now, Until: now.Add(2 * time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		data, _, err = BringOnline("p", data, []string{"shop"}, now.Add(100*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	if c, err := Parse("p", data); err != nil || len(c.Maintenance) != 3 {
		t.Errorf("three windows in a row: %v\n%s", err, data)
	}
}

package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMoveMaintenance(t *testing.T) {
	both := "[[maintenance]]\nhosts = [\"www\", \"blog\"] # both\nfrom = 2026-11-30T22:00:00\nuntil = 2026-11-30T23:00:00 # or so\ndrain = \"10m\"\nreason = \"new shelves\"\n"
	shop := strings.Replace(both, `"www", "blog"`, `"shop"`, 1)
	late := func(s string) string {
		return strings.Replace(s, "2026-11-30T23:00:00", "2026-11-30T23:30:00+11:00", 1)
	}
	weekly := "[[maintenance]]\nhosts = [\"*\"]\ncron = \"0 22 * * 1\"\nfor = \"1h\"\n"
	until := at(t, "2026-11-30T23:30:00.7+11:00")
	tests := []struct {
		name  string
		in    string
		hosts []string
		m     Maintenance // hosts and until aside
		now   string
		want  string
		moved string
	}{
		{"in force", planHosts + shop, []string{"shop"}, Maintenance{}, "2026-11-30T22:30:00+11:00", planHosts + late(shop), "shop"},
		{"in its drain", planHosts + shop, []string{"shop"}, Maintenance{}, "2026-11-30T21:55:00+11:00", planHosts + late(shop), "shop"},
		{"another drain", planHosts + shop, []string{"shop"}, Maintenance{From: at(t, "2026-11-30T22:15:00+11:00"), Drain: 20 * time.Minute}, "2026-11-30T21:55:00+11:00",
			planHosts + strings.NewReplacer("22:00:00", "22:15:00+11:00", "10m", "20m").Replace(late(shop)), "shop"},
		{"a drain that is over", planHosts + shop, []string{"shop"}, Maintenance{From: at(t, "2026-11-30T22:40:00+11:00"), Drain: 10 * time.Minute}, "2026-11-30T22:30:00+11:00",
			planHosts + late(shop), "shop"},
		{"another reason", planHosts + shop, []string{"shop"}, Maintenance{Reason: "old\nshelves\xff"}, "2026-11-30T22:30:00+11:00",
			planHosts + strings.Replace(late(shop), "new shelves", "old\\nshelves\ufffd", 1), "shop"},
		{"all of its hosts", planHosts + both, []string{"blog", "shop", "git.example.com"}, Maintenance{}, "2026-11-30T22:30:00+11:00",
			strings.Replace(planHosts, "false", "true", 1) + late(both), "blog shop"},
		{"one of its hosts", planHosts + both, []string{"shop"}, Maintenance{}, "2026-11-30T22:30:00+11:00",
			planHosts + both + "ended  = { shop = 2026-11-30T22:30:00+11:00 }\n", ""},
		{"the one that is left", planHosts + both + "ended.shop = 2026-11-30T22:10:00\n", []string{"blog"}, Maintenance{}, "2026-11-30T22:30:00+11:00",
			planHosts + late(both) + "ended.shop = 2026-11-30T22:10:00\n", "blog"},
		{"not begun", planHosts + shop, []string{"shop"}, Maintenance{}, "2026-11-30T21:49:59+11:00", planHosts + shop, ""},
		{"by cron", planHosts + weekly, []string{"shop"}, Maintenance{}, "2026-11-30T22:30:00+11:00",
			planHosts + weekly + "ended  = { shop = 2026-11-30T22:30:00+11:00 }\n", ""},
		{"by cron, too", planHosts + weekly + shop, []string{"shop"}, Maintenance{}, "2026-11-30T22:30:00+11:00",
			planHosts + weekly + "ended  = { shop = 2026-11-30T22:30:00+11:00 }\n" + late(shop), "shop"},
		{"all are offline", "offline.all = true\n" + planHosts + shop, []string{"shop"}, Maintenance{}, "2026-11-30T22:30:00+11:00",
			"offline.all = true\n" + planHosts + late(shop), "shop"},
		{"in a list", "maintenance = [{ hosts = [\"shop\"], from = 2026-11-30T22:00:00, until = 2026-11-30T23:00:00 }]\n" + planHosts, []string{"shop"},
			Maintenance{From: at(t, "2026-11-30T22:15:00+11:00"), Drain: 20 * time.Minute, Reason: "why"}, "2026-11-30T21:55:00+11:00",
			"maintenance = [{ hosts = [\"shop\"], from = 2026-11-30T22:00:00, until = 2026-11-30T23:00:00 }]\n" + planHosts, ""},
		{"in a list, in force", "maintenance = [{ hosts = [\"shop\"], from = 2026-11-30T22:00:00, until = 2026-11-30T23:00:00, drain = \"10m\" }]\n" + planHosts, []string{"shop"},
			Maintenance{From: at(t, "2026-11-30T22:15:00+11:00"), Reason: "why"}, "2026-11-30T21:55:00+11:00",
			"maintenance = [{ hosts = [\"shop\"], from = 2026-11-30T22:15:00+11:00, until = 2026-11-30T23:30:00+11:00, drain = \"0s\", reason = \"why\" }]\n" + planHosts, "shop"},
	}
	for _, tt := range tests {
		for form, change := range forms() {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				tt.m.Hosts, tt.m.Until = tt.hosts, until
				got, changes, err := MoveMaintenance("proxy.toml", []byte(change(planHead+tt.in)), tt.m, at(t, tt.now))
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(change(planHead+tt.want), string(got)); diff != "" {
					t.Errorf("MoveMaintenance (-want +got):\n%s", diff)
				}
				var moved []string
				for _, ch := range changes {
					if ch.Moved {
						moved = append(moved, ch.Key)
					}
				}
				if got := strings.Join(moved, " "); got != tt.moved {
					t.Errorf("moved %q; want %q", got, tt.moved)
				}
			})
		}
	}
}

// Of two windows in force the stricter is moved, and the other one ends.
func TestMoveMaintenanceOfTwo(t *testing.T) {
	in := planHead + planHosts + "[[maintenance]]\nhosts = [\"shop\"]\nfrom = 2026-11-30T23:00:00\nuntil = 2026-12-01T00:00:00\ndrain = \"2h\"\n" +
		"[[maintenance]]\nhosts = [\"*\"]\nfrom = 2026-11-30T22:00:00\nuntil = 2026-11-30T23:00:00\n"
	got, _, err := MoveMaintenance("p", []byte(in), Maintenance{Hosts: []string{"shop", "blog", "git.example.com"}, Until: at(t, "2026-12-01T02:00:00+11:00")}, at(t, "2026-11-30T22:30:00+11:00"))
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(in, "drain = \"2h\"\n", "drain = \"2h\"\nended  = { shop = 2026-11-30T22:30:00+11:00 }\n", 1)
	want = strings.Replace(want, "until = 2026-11-30T23:00:00", "until = 2026-12-01T02:00:00+11:00", 1)
	want = strings.Replace(want, "false", "true", 1)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("MoveMaintenance (-want +got):\n%s", diff)
	}
}

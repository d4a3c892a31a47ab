package config

import (
	"testing"
	"time"
)

func TestParseMoment(t *testing.T) {
	sydney, err := timeZone("Australia/Sydney")
	if err != nil {
		t.Fatal(err)
	}
	utc, _ := timeZone("UTC")
	lordHowe, _ := timeZone("Australia/Lord_Howe") // moves its clocks by half an hour
	tests := []struct {
		in            string
		zone          *time.Location
		first, second string // as from, as until
	}{
		{"2026-11-30T22:00:00", sydney, "2026-11-30T22:00:00+11:00", ""},
		{"2026-07-01 22:00", sydney, "2026-07-01T22:00:00+10:00", ""},
		{"2026-07-01t22:00:00.25z", sydney, "2026-07-01T22:00:00.25Z", ""},
		{"2026-07-01T22:00:00-03:30", sydney, "2026-07-01T22:00:00-03:30", ""},
		{"2026-07-01T22:00:00", utc, "2026-07-01T22:00:00Z", ""},
		{"2026-07-01T22:00:00+23:59", utc, "2026-07-01T22:00:00+23:59", ""},
		{"2026-04-05T01:59:59", sydney, "2026-04-05T01:59:59+11:00", ""},
		{"2026-04-05T02:00:00", sydney, "2026-04-05T02:00:00+11:00", "2026-04-05T02:00:00+10:00"},
		{"2026-04-05T02:59:59", sydney, "2026-04-05T02:59:59+11:00", "2026-04-05T02:59:59+10:00"},
		{"2026-04-05T03:00:00", sydney, "2026-04-05T03:00:00+10:00", ""},
		{"2026-10-04T01:59:59", sydney, "2026-10-04T01:59:59+10:00", ""},
		{"2026-10-04T03:00:00", sydney, "2026-10-04T03:00:00+11:00", ""},
		{"2026-04-05T01:45:00", lordHowe, "2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30"},
	}
	for _, tt := range tests {
		if tt.second == "" {
			tt.second = tt.first
		}
		for later, want := range map[bool]string{false: tt.first, true: tt.second} {
			if got, err := ParseMoment(tt.in, tt.zone, later); err != nil || !got.Equal(at(t, want)) {
				t.Errorf("ParseMoment(%q, %s, %v) = %s, %v; want %s", tt.in, tt.zone, later, got, err, want)
			}
		}
	}
	for _, in := range []string{"", "2026-11-30", "22:00:00", "2026-11-30T22", "2026-11-30T24:00:00", "2026-02-29T22:00:00", "2026-11-30T22:00:60Z",
		"2026-11-30T22:00:00+24:00", "2026-11-30T22:00:00+0100", "2026-11-30T22:00:00.", "0001-01-01T00:00:00", "2026-10-04T02:00:00", "2026-10-04T02:59:59"} {
		if got, err := ParseMoment(in, sydney, false); err == nil {
			t.Errorf("ParseMoment(%q) = %s; want an error", in, got)
		}
	}
	for _, name := range []string{"Local", "Sydney", "../etc/passwd", "+10:00"} {
		if zone, err := timeZone(name); err == nil {
			t.Errorf("timeZone(%q) = %s; want an error", name, zone)
		}
	}
}

func TestEqualLooksAtWhatTimesMean(t *testing.T) {
	file := func(zone, from string) *Config {
		c, err := Parse("p", []byte("time_zone = \""+zone+"\"\nstatus_page = \"https://status.example.net\"\nhosts.\"a.example.org\".upstream = \"10.1.1.4\"\n"+
			"[[maintenance]]\nhosts = [\"*\"]\nfrom = "+from+"\nuntil = 2026-12-01T00:00:00Z\n"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	one := file("Australia/Sydney", "2026-11-30T22:00:00")
	tests := []struct {
		name  string
		other *Config
		want  bool
	}{
		{"again", file("Australia/Sydney", "2026-11-30T22:00:00"), true},
		{"with its offset", file("Australia/Sydney", "2026-11-30T11:00:00Z"), true},
		{"in a zone with the same offset", file("Australia/Melbourne", "2026-11-30T22:00:00"), false}, // cron lines mean something else
		{"another time", file("Australia/Sydney", "2026-11-30T22:00:01"), false},
	}
	for _, tt := range tests {
		if got := Equal(one, tt.other); got != tt.want {
			t.Errorf("Equal, %s = %v; want %v", tt.name, got, tt.want)
		}
	}
}

func TestUpstreamString(t *testing.T) {
	tests := []struct{ in, want string }{
		{"10.1.1.4", "10.1.1.4"},
		{"http://10.1.1.4:80", "10.1.1.4"},
		{"app.lan:8080", "app.lan:8080"},
		{"::1", "::1"},
		{"[::1]:8080", "[::1]:8080"},
		{"https://[::1]", "https://[::1]"},
		{"https://app.lan:443", "https://app.lan"},
		{"https://app.lan:80", "https://app.lan:80"},
		{"h2c://my_app:3000", "h2c://my_app:3000"},
		{"unix:///run/app.sock", "unix//run/app.sock"},
	}
	for _, tt := range tests {
		u, err := upstream(tt.in)
		if err != nil || u.String() != tt.want {
			t.Errorf("upstream(%q).String() = %q, %v; want %q", tt.in, u, err, tt.want)
		}
	}
}

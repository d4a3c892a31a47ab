package config

import (
	"strings"
	"testing"
	"time"
)

func TestHostName(t *testing.T) {
	tests := []struct{ in, domain, want string }{
		{"blog", "example.org", "blog.example.org"},
		{"Blog.Example.ORG.", "example.net", "blog.example.org"},
		{"@", "example.org", "example.org"},
		{"*", "example.org", "*.example.org"},
		{"*.b.example.org", "", "*.b.example.org"},
		{"bücher", "example.org", "xn--bcher-kva.example.org"},
		{"faß.de", "", "xn--fa-hia.de"},
		{"xn--bcher-kva.example.org", "", "xn--bcher-kva.example.org"},
		{"bücher。example．org", "example.net", "xn--bcher-kva.example.org"},
		{"localhost.", "", "localhost"},
		{"r3---sn-x.example.org", "", "r3---sn-x.example.org"},
		{strings.Repeat("a", 63), "b", strings.Repeat("a", 63) + ".b"},
	}
	for _, tt := range tests {
		if got, err := hostName(tt.in, tt.domain); got != tt.want || err != nil {
			t.Errorf("hostName(%q, %q) = %q, %v; want %q", tt.in, tt.domain, got, err, tt.want)
		}
	}
	for _, in := range []string{"", ".", "a..b", "..", "*.", "**.b.c", "a.*", "*a.b.c", "a_b.c.d", "-a.b.c", "a-.b.c", "a b.c",
		"a.b:443", "http://a.b", "[::1]", "::1", "192.0.2.1", "0x7f.1", "1.2.3.4.5", "a/b.c", "a\x00.b", "xn--a.b", "☃☃☃" + strings.Repeat("é", 63) + ".b",
		strings.Repeat("a", 64) + ".b", strings.Repeat("a.", 127) + "aa"} {
		if got, err := hostName(in, ""); err == nil {
			t.Errorf("hostName(%q) = %q; want an error", in, got)
		}
	}
}

func TestParseDuration(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		in   string
		want time.Duration
	}{
		{"10s", 10 * time.Second}, {"1h30m", 90 * time.Minute}, {"90d", 90 * day}, {"2w", 14 * day},
		{"1w2d12h", 9*day + 12*time.Hour}, {"0", 0}, {"0s", 0}, {"0d", 0}, {"1.5h", 90 * time.Minute}, {"500ms", 500 * time.Millisecond},
	}
	for _, tt := range tests {
		if got, err := ParseDuration(tt.in); got != tt.want || err != nil {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "10", "d", "1 d", "-1d", "-5s", "+5s", "1d-1h", "1d1w", "1.5d", "99999w", "999999d", "9999w9999999h", "5 min", "1D"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v; want an error", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	tests := []struct {
		in   string
		want int64
	}{
		{"100MiB", 100 << 20}, {"10MB", 10_000_000}, {"512KiB", 512 << 10}, {"1.5GiB", 3 << 29}, {"2 TB", 2e12}, {"17B", 17}, {"0B", 0},
	}
	for _, tt := range tests {
		if got, err := parseSize(tt.in); got != tt.want || err != nil {
			t.Errorf("parseSize(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "MiB", "10", "10M", "-1MB", "1e3MB", "1,5MB", "9999999999TiB", "10PB", "0x10MB", " 1MB"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("parseSize(%q) = %v; want an error", in, got)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"upstream", "online", "aliases", "status_page", "log", "key"}
	for in, want := range map[string]string{
		"upstreem": "upstream", "onlien": "online", "statuspage": "status_page", "Status-Page": "status_page",
		"lgo": "log", "alias": "aliases", "backend": "", "x": "", "": "", "upstream_upstream_upstream": "",
	} {
		if got := nearest(in, words); got != want {
			t.Errorf("nearest(%q) = %q; want %q", in, got, want)
		}
	}
}

package proxy

import (
	"strings"
	"testing"
)

func TestBestCoding(t *testing.T) {
	tests := []struct {
		name, accept string
		want         coding
	}{
		{"absent", "", identity},
		{"Chrome", "gzip, deflate, br, zstd", zstdCoding},
		{"Safari", "gzip, deflate, br", gzipCoding},
		{"old name", "x-gzip", gzipCoding},
		{"capitals", "GZIP", gzipCoding},
		{"unknown only", "br, deflate", identity},
		{"weights", "zstd;q=0.5, gzip;q=0.8", gzipCoding},
		{"tie", "gzip;q=0.8, zstd;q=0.8", zstdCoding},
		{"three digits", "gzip;q=0.801, zstd;q=0.800", gzipCoding},
		{"refused", "gzip;q=0, zstd;q=0.0", identity},
		{"anything", "*", zstdCoding},
		{"anything but zstd", "zstd;q=0, *", gzipCoding},
		{"anything less than gzip", "gzip, *;q=0.5", gzipCoding},
		{"identity preferred", "identity, gzip;q=0.5", identity},
		{"identity less", "identity;q=0.5, gzip", gzipCoding},
		{"identity as good", "identity, gzip", gzipCoding},
		{"no identity", "gzip, identity;q=0", gzipCoding},
		{"nothing at all", "*;q=0", identity},
		{"broken weight", "gzip;q=x, zstd;q=0.1", zstdCoding},
		{"weight above one", "gzip;q=2, zstd;q=0.1", zstdCoding},
		{"space", " gzip ; q = 0.9 ,\tzstd;q=0.1", gzipCoding},
		{"part of a name", "gzipped", identity},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var values []string
			if tt.accept != "" {
				values = []string{tt.accept}
			}
			if got := readCodings(values).best(); got != tt.want {
				t.Errorf("best coding for %q = %v; want %v", tt.accept, got, tt.want)
			}
		})
	}
}

func TestIdentityForbidden(t *testing.T) {
	for accept, want := range map[string]bool{
		"gzip":                  true,
		"gzip, identity;q=0":    false,
		"gzip, *;q=0":           false,
		"identity;q=0.1, *;q=0": true,
	} {
		if got := readCodings([]string{accept}).accepts(identity); got != want {
			t.Errorf("identity accepted by %q = %v; want %v", accept, got, want)
		}
	}
}

// No list can confuse the reader: it ends, and weights stay in range.
func FuzzItems(f *testing.F) {
	for _, s := range []string{"gzip, br;q=0.5", ",,;;q", "a;q=1.0000, b;Q=0.333", "*;q=0", "\"a,b\";q=0.2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n := 0
		for item, q := range items([]string{s}) {
			if n++; n > len(s) {
				t.Fatalf("items(%q) are more than its bytes", s)
			}
			if item == "" || strings.ContainsAny(item, ",;") || q < 0 || q > certain {
				t.Errorf("items(%q) has %q, %d; want an item and a weight of 0 to %d", s, item, q, certain)
			}
		}
		if c := readCodings([]string{s}).best(); c > zstdCoding {
			t.Errorf("readCodings(%q).best() = %d; want one of ours", s, c)
		}
		preferredFormat([]string{s}) // must come back
	})
}

package h2

import (
	"net/http"
	"strings"
	"testing"
)

// Names are what net/http makes of them, whether they are common or not, and come
// back from the wire as they went.
func TestNames(t *testing.T) {
	for _, name := range append([]string{"x-unheard-of", "a", "x_y"}, commonNames...) {
		key := http.CanonicalHeaderKey(name)
		if got := canonical(name); got != key {
			t.Errorf("canonical(%q) = %q; want %q", name, got, key)
		}
		if got := wire(key); got.name != name {
			t.Errorf("wire(%q) = %q; want %q", key, got.name, name)
		}
	}
	for name := range onceNames {
		if !wire(http.CanonicalHeaderKey(name)).once {
			t.Errorf("%q is put into tables; want not", name)
		}
	}
	for _, name := range []string{"", "a b", "ä", "a:b"} {
		if got := wire(name); got.name != "" {
			t.Errorf("wire(%q) = %q; want nothing", name, got.name)
		}
	}
}

// A field that is remembered is judged as it was at first, and what is remembered
// is bounded.
func TestKnownFields(t *testing.T) {
	var h head
	h.init(1 << 20)
	tests := []struct {
		wire, value string
		ok          bool
	}{
		{"", "", false}, {"a", "", true}, {"a", "b", true}, {"A", "b", false}, {"a", " b", false}, {"a", "\x00", false},
		{"cookie", strings.Repeat("x", 900), true}, {"cookie", strings.Repeat("x", maxKnown), true},
		{"content-type", "text/html", true}, {"x-long-" + strings.Repeat("x", 900), "", true},
	}
	for range 3 {
		for i := range 200 {
			tt := tests[i%len(tests)]
			if len(tt.value) > 100 && i > 20 {
				tt.value = tt.value[i:]
			}
			h.malformed = ""
			name := h.check(tt.wire, tt.value)
			if ok := h.malformed == ""; ok != tt.ok || name != http.CanonicalHeaderKey(tt.wire) {
				t.Fatalf("check(%.20q, %.20q) = %q, %v; want %v", tt.wire, tt.value, name, ok, tt.ok)
			}
			n := 0
			for _, k := range h.known {
				n += len(k.wire) + len(k.value)
			}
			if n != h.knownBytes || n > maxKnown {
				t.Fatalf("%d bytes are remembered, and %d counted; want at most %d", n, h.knownBytes, maxKnown)
			}
		}
	}
}

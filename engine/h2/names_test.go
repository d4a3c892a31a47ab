package h2

import (
	"net/http"
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
		if got := wireNameOf(key); got.name != name {
			t.Errorf("wireNameOf(%q) = %q; want %q", key, got.name, name)
		}
	}
	for _, name := range onceNames {
		if !wireNameOf(http.CanonicalHeaderKey(name)).once {
			t.Errorf("%q is put into tables; want not", name)
		}
	}
	for _, name := range []string{"", "a b", "ä", "a:b"} {
		if got := wireNameOf(name); got.name != "" {
			t.Errorf("wireNameOf(%q) = %q; want nothing", name, got.name)
		}
	}
}

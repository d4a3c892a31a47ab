package wire_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"detour/engine/wire"
)

func TestSortedIsInTheOrderOfNames(t *testing.T) {
	many := make(http.Header)
	for i := range 40 {
		many[strings.Repeat("x", i%13)+strconv.Itoa(i)] = []string{strconv.Itoa(i)}
	}
	for _, h := range []http.Header{
		nil,
		{"": {"a"}},
		{"B": nil, "A": {}, "Ab": {"1"}, "a": {"2", "3"}, "A\x00": {"4"}, "\xff": {"5"}},
		{"Sec-Fetch-Site": {"a"}, "Sec-Fetch-Mode": {"b"}, "Sec-Fetc": {"c"}, "Sec-Fet": {"d"}, "Sec-Fe": {"e"}, "Sec-Fetd": {"f"}},
		many,
	} {
		sorted := wire.Sort(h)
		names := slices.Sorted(maps.Keys(h))
		if sorted.Len() != len(names) {
			t.Fatalf("%d fields; want %d", sorted.Len(), len(names))
		}
		for i, name := range names {
			if got, values := sorted.At(i); got != name || !slices.Equal(values, h[name]) {
				t.Errorf("field %d = %q %q; want %q %q", i, got, values, name, h[name])
			}
		}
		sorted.Release() // the next one must not find anything of it
	}
}

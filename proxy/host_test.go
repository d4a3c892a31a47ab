package proxy

import (
	"strings"
	"testing"
)

func TestCanonicalHost(t *testing.T) {
	long := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"example.test":                   "example.test",
		"EXAMPLE.test:8443":              "example.test",
		"example.test.":                  "example.test",
		"example.test.:443":              "example.test",
		"example.test:":                  "example.test",
		"bücher.example":                 "xn--bcher-kva.example",
		"BÜCHER.example":                 "xn--bcher-kva.example",
		"xn--bcher-kva.example":          "xn--bcher-kva.example",
		"a_b.example":                    "a_b.example",
		"192.0.2.1:80":                   "192.0.2.1",
		"[2001:DB8:0::1]:443":            "[2001:db8::1]",
		long + ".test":                   long + ".test",
		"":                               "",
		".":                              "",
		"..":                             "",
		"example..test":                  "",
		".example.test":                  "",
		"example.test..":                 "",
		"a b":                            "",
		"a/b":                            "",
		"a@b":                            "",
		"a\x00b":                         "",
		"example.test:80x":               "",
		"example.test:1:2":               "",
		"2001:db8::1":                    "",
		"[::1":                           "",
		"[::1]x":                         "",
		"[fe80::1%eth0]":                 "",
		"[127.0.0.1]":                    "",
		"*.example.test":                 "",
		long + "a.test":                  "",
		strings.Repeat("a.", 127) + "aa": "",
	} {
		got, err := CanonicalHost(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("CanonicalHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzCanonicalHost(f *testing.F) {
	for _, s := range []string{"example.test:80", "[::1]:1", "bücher.", "a..b", "ß.de", "İ.test"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := CanonicalHost(s)
		if err != nil {
			return
		}
		if strings.ContainsAny(name, "/?#@% \\\r\n\x00") || name != strings.ToLower(name) || name == "" {
			t.Errorf("CanonicalHost(%q) = %q; not fit for a URL", s, name)
		}
		if again, err := CanonicalHost(name); err != nil || again != name {
			t.Errorf("CanonicalHost(%q) = %q, %v; want itself, it is canonical", name, again, err)
		}
	})
}

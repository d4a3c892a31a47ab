package config

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files and docs/configuration.md")

// golden compares got with the file at path, or rewrites it with -update.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; go test ./config -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// eachFile runs test for every TOML file of a folder of testdata.
func eachFile(t *testing.T, folder string, test func(t *testing.T, path string, data []byte)) {
	paths, err := filepath.Glob(filepath.Join("testdata", folder, "*.toml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files in testdata/%s: %v", folder, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			test(t, path, data)
		})
	}
}

func canonical(t *testing.T, c *Config) string {
	t.Helper()
	zone := "Local" // whatever the system's own is called
	if c.TimeZone != time.Local {
		zone = c.TimeZone.String()
	}
	out, err := json.MarshalIndent(struct {
		*Config
		TimeZone string // a Location has no JSON of its own
	}{c, zone}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

func TestValid(t *testing.T) {
	eachFile(t, "valid", func(t *testing.T, path string, data []byte) {
		c, err := Parse(filepath.Base(path), data)
		if err != nil {
			t.Fatalf("Parse:\n%v", err)
		}
		golden(t, strings.TrimSuffix(path, "toml")+"json", canonical(t, c))
	})
}

func TestInvalid(t *testing.T) {
	eachFile(t, "invalid", func(t *testing.T, path string, data []byte) {
		c, err := Parse(filepath.Base(path), data)
		var problems Problems
		if !errors.As(err, &problems) || c != nil {
			t.Fatalf("Parse = %v, %v; want no Config and Problems", c, err)
		}
		golden(t, strings.TrimSuffix(path, "toml")+"err", err.Error()+"\n")
		if strings.Contains(err.Error(), "hunter2") {
			t.Error("the error shows a secret")
		}
	})
}

// Reading the same thing written in another way gives the same Config.
func TestFormsMeanTheSame(t *testing.T) {
	read := func(name string) *Config {
		data, err := os.ReadFile(filepath.Join("testdata", "valid", name))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	want := read("seed.toml")
	for _, name := range []string{"seed-tables.toml", "seed-dotted.toml", "seed-inline.toml", "seed-crlf-bom.toml"} {
		if got := read(name); !Equal(want, got) {
			t.Errorf("%s differs from seed.toml (-want +got):\n%s", name, cmp.Diff(canonical(t, want), canonical(t, got)))
		}
	}
	if other := read("full.toml"); Equal(want, other) {
		t.Error("Equal(seed, full) = true; want false")
	}
}

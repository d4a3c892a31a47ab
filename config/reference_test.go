package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The keys in docs/configuration.md stand between these lines.
const (
	docFile  = "../docs/configuration.md"
	docBegin = "<!-- keys: written by go test ./config -update -->\n"
	docEnd   = "<!-- end of keys -->\n"
)

func TestDocumentationListsEveryKey(t *testing.T) {
	data, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(data), docBegin)
	_, after, ok2 := strings.Cut(rest, docEnd)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines %q and %q", docFile, docBegin, docEnd)
	}
	golden(t, docFile, before+docBegin+keyTables()+docEnd+after)
}

// keyTables is the reference in Markdown, one table for each table of the file.
func keyTables() string {
	var b strings.Builder
	table := "none yet"
	for _, k := range Reference() {
		t, name := docTable(k.Name)
		if t != table {
			table = t
			fmt.Fprintf(&b, "\n### %s\n\n| key | type | default | |\n|---|---|---|---|\n", table)
		}
		def := ""
		if k.Default != "" {
			def = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, k.Type, def, k.Doc)
	}
	return b.String() + "\n"
}

func docTable(name string) (table, key string) {
	if key, ok := strings.CutPrefix(name, hostPrefix); ok {
		return "A host in `[hosts]`", key
	}
	if key, ok := strings.CutPrefix(name, maintenancePrefix); ok {
		return "`[[maintenance]]`", key
	}
	if above(name) == "" {
		return "At the top of the file", name
	}
	return "`[" + above(name) + "]`", base(name)
}

// Whatever the keys' list calls a default is what an absent key gives: a file
// that spells out every default means the same as one without.
func TestDefaultsAreWhatTheReferenceSays(t *testing.T) {
	const hosts = "[hosts.\"blog.example.org\"]\nupstream = \"10.1.1.4\"\n"
	head := "status_page = \"https://status.example.net\"\n"
	short, err := Parse("short", []byte(head+hosts))
	if err != nil {
		t.Fatal(err)
	}
	long := head
	tail := hosts
	for _, k := range Reference() {
		if k.Default == "" {
			continue
		}
		if name, ok := strings.CutPrefix(k.Name, hostPrefix); ok {
			// The one is not for an http upstream, the other would switch probes on.
			if !strings.HasPrefix(name, "upstream_tls.") && !strings.HasPrefix(name, "health.") {
				tail += name + " = " + k.Default + "\n"
			}
			continue
		}
		long += k.Name + " = " + k.Default + "\n"
	}
	got, err := Parse("long", []byte(long+tail))
	if err != nil {
		t.Fatalf("%v\nin:\n%s", err, long+tail)
	}
	if !Equal(short, got) {
		t.Errorf("(-absent +written):\n%s", cmp.Diff(canonical(t, short), canonical(t, got)))
	}
}

// testdata/valid/full.toml sets every key to something else than its default,
// and every field of Config shows it: no key is bound to the wrong field, and no
// field is without a key.
func TestEveryKeyReachesItsField(t *testing.T) {
	read := func(name string) (*Config, string) {
		data, err := os.ReadFile(filepath.Join("testdata", "valid", name))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(name, data)
		if err != nil {
			t.Fatal(err)
		}
		return c, string(data)
	}
	_, text := read("full.toml")
	for _, k := range Reference() {
		if !regexp.MustCompile(`\b` + base(k.Name) + ` *=`).MatchString(text) {
			t.Errorf("full.toml does not set %s", k.Name)
		}
	}
	usual, full := map[string]map[string]bool{}, map[string]map[string]bool{}
	c, _ := read("minimal.toml")
	leaves(t, c, usual)
	c, _ = read("full.toml")
	leaves(t, c, full)
	for path, values := range full {
		for v := range usual[path] {
			delete(values, v)
		}
		if len(values) == 0 {
			t.Errorf("no key of full.toml changes %s", path)
		}
	}
}

// leaves collects the values of c by path, those of all list elements together.
func leaves(t *testing.T, c *Config, into map[string]map[string]bool) {
	var tree any
	if err := json.Unmarshal([]byte(canonical(t, c)), &tree); err != nil {
		t.Fatal(err)
	}
	var walk func(v any, path string)
	walk = func(v any, path string) {
		switch v := v.(type) {
		case map[string]any:
			for k, member := range v {
				walk(member, path+"."+k)
			}
		case []any:
			for _, element := range v {
				walk(element, path+"[]")
			}
		case nil: // an absent list or table
		default:
			if into[path] == nil {
				into[path] = map[string]bool{}
			}
			into[path][fmt.Sprint(v)] = true
		}
	}
	walk(tree, "Config")
}

func TestSampleParses(t *testing.T) {
	const sample = "../proxy.toml"
	data, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(sample, data)
	if err != nil {
		t.Fatal(err)
	}
	// What is commented out says the truth about the defaults.
	for _, m := range regexp.MustCompile(`(?m)^# ([a-z_0-9]+) *= ("[^"]*"|\S+)`).FindAllStringSubmatchIndex(string(data), -1) {
		key, value := string(data[m[2]:m[3]]), string(data[m[4]:m[5]])
		tables := regexp.MustCompile(`(?m)^# ?\[(\S+)\]`).FindAllStringSubmatch(string(data[:m[0]]), -1)
		if len(tables) == 0 || strings.HasPrefix(tables[len(tables)-1][1], "hosts.") {
			continue
		}
		name := strings.Replace(tables[len(tables)-1][1], "[maintenance]", "maintenance.*", 1) + "." + key
		for _, k := range Reference() {
			if k.Name != name {
				continue
			}
			if k.Default != value && k.Default != "" {
				t.Errorf("%s: the sample says %s = %s; the default is %s", filepath.Base(sample), name, value, k.Default)
			}
			name = ""
		}
		if name != "" {
			t.Errorf("%s: there is no key %s", filepath.Base(sample), name)
		}
	}
	// And it can be used as it stands.
	whole := regexp.MustCompile(`(?m)^# (\[|[a-z_0-9]+ *= )`).ReplaceAll(data, []byte("$1"))
	if all, err := Parse(sample, whole); err != nil || len(all.Hosts) != 6 || len(all.Maintenance) != 1 {
		t.Errorf("the sample with all that is commented out: %v", err)
	}
	if c.Hosts[0].ResponseTimeout != time.Minute || len(c.Hosts) != 4 {
		t.Errorf("hosts = %+v; want the four of the sample", c.Hosts)
	}
}

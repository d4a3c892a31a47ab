package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSetOnline(t *testing.T) {
	const head = "domain = \"example.org\"\nstatus_page = \"https://status.example.net{uri}\"\n"
	tests := []struct {
		name   string
		in     string
		hosts  []string
		online bool
		want   string
	}{
		{"inline table, comment and blanks kept",
			"[hosts]\nblog  = { upstream = \"10.1.1.4\",  online =  true  } # mine\n", []string{"blog"}, false,
			"[hosts]\nblog  = { upstream = \"10.1.1.4\",  online =  false  } # mine\n"},
		{"back online, by full name",
			"[hosts]\nblog = { online = false, upstream = \"10.1.1.4\" }\n", []string{"BLOG.example.org"}, true,
			"[hosts]\nblog = { online = true, upstream = \"10.1.1.4\" }\n"},
		{"by short alias, full name of an alias, @ and wildcard",
			"[hosts]\na = { upstream = \"u\", online = true, aliases = [\"www\"] }\nb = { upstream = \"u\", online = true, aliases = [\"b.example.net\"] }\n\"@\" = { upstream = \"u\", online = true }\n\"*\" = { upstream = \"u\", online = true }\n",
			[]string{"www", "b.example.net.", "example.org", "*.example.org", "a"}, false,
			"[hosts]\na = { upstream = \"u\", online = false, aliases = [\"www\"] }\nb = { upstream = \"u\", online = false, aliases = [\"b.example.net\"] }\n\"@\" = { upstream = \"u\", online = false }\n\"*\" = { upstream = \"u\", online = false }\n"},
		{"absent, inline",
			"[hosts]\nblog = { upstream = \"10.1.1.4\" , log = false } # x\n", []string{"blog"}, false,
			"[hosts]\nblog = { upstream = \"10.1.1.4\", online = false , log = false } # x\n"},
		{"absent, inline over lines with comments",
			"[hosts]\nblog = { # a\n  upstream = \"10.1.1.4\" # b\n} # c\n", []string{"blog"}, false,
			"[hosts]\nblog = { # a\n  upstream = \"10.1.1.4\", online = false # b\n} # c\n"},
		{"absent, table",
			"[hosts.blog]\n\tupstream = \"10.1.1.4\" # b\n\n# end", []string{"blog"}, false,
			"[hosts.blog]\n\tupstream = \"10.1.1.4\" # b\n\tonline = false\n\n# end"},
		{"absent, table, no newline at the end",
			"[hosts.blog]\nupstream = \"10.1.1.4\"", []string{"blog"}, false,
			"[hosts.blog]\nupstream = \"10.1.1.4\"\nonline = false"},
		{"absent, table, text over lines",
			"[hosts.blog]\nupstream = \"\"\"\\\n  10.1.1.4\"\"\" # b\n", []string{"blog"}, false,
			"[hosts.blog]\nupstream = \"\"\"\\\n  10.1.1.4\"\"\" # b\nonline = false\n"},
		{"absent, dotted keys",
			"[hosts]\n  \"blog\" . 'upstream' = \"10.1.1.4\"\nshop.upstream = \"10.1.1.5\"\n", []string{"blog", "shop"}, false,
			"[hosts]\n  \"blog\" . 'upstream' = \"10.1.1.4\"\n  \"blog\" . online = false\nshop.upstream = \"10.1.1.5\"\nshop.online = false\n"},
		{"absent, dotted keys in an inline table",
			"hosts = { blog.upstream = \"10.1.1.4\", shop = { upstream = \"10.1.1.5\" } }\n", []string{"blog", "shop"}, false,
			"hosts = { blog.upstream = \"10.1.1.4\", blog.online = false, shop = { upstream = \"10.1.1.5\", online = false } }\n"},
		{"absent is online already",
			"[hosts]\nblog = { upstream = \"10.1.1.4\" }\n", []string{"blog"}, true,
			"[hosts]\nblog = { upstream = \"10.1.1.4\" }\n"},
		{"quoted key of the flag",
			"[hosts]\nblog = { upstream = \"10.1.1.4\", \"online\" = true }\n", []string{"blog"}, false,
			"[hosts]\nblog = { upstream = \"10.1.1.4\", \"online\" = false }\n"},
	}
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	for _, tt := range tests {
		for form, change := range map[string]func(string) string{
			"LF":   func(s string) string { return s },
			"CRLF": crlf,
			"BOM":  func(s string) string { return string(bom) + s },
		} {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				in, want := change(head+tt.in), change(head+tt.want)
				got, changes, err := SetOnline("proxy.toml", []byte(in), tt.hosts, tt.online)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, string(got)); diff != "" {
					t.Errorf("SetOnline (-want +got):\n%s", diff)
				}
				for _, c := range changes {
					if c.To != tt.online {
						t.Errorf("change %+v; want To = %v", c, tt.online)
					}
				}
			})
		}
	}
}

func TestSetOnlineOnTheFirstLineBehindABOM(t *testing.T) {
	in := string(bom) + "hosts.\"a.example.org\".upstream = \"10.1.1.4\"\nstatus_page = \"https://status.example.net\""
	got, _, err := SetOnline("p", []byte(in), []string{"a.example.org"}, false)
	want := strings.Replace(in, "\n", "\nhosts.\"a.example.org\".online = false\n", 1)
	if err != nil || string(got) != want {
		t.Errorf("SetOnline = %q, %v; want %q", got, err, want)
	}
}

func TestSetOnlineReportsChanges(t *testing.T) {
	data := readSeed(t)
	_, got, err := SetOnline("proxy.toml", data, []string{"www", "cloud", "shop"}, false)
	want := []Change{
		{Host: "shop.udance.com.au", Key: "shop", From: true, To: false},
		{Host: "cloud.udance.com.au", Key: "cloud", From: false, To: false},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("SetOnline: %v (-want +got):\n%s", err, diff)
	}
}

func TestSetOnlineRefuses(t *testing.T) {
	loop := "domain = \"example.org\"\nstatus_page = \"https://status.example.org{uri}\"\n[hosts]\nstatus.upstream = \"10.1.1.4\"\nblog.upstream = \"10.1.1.4\"\n"
	tests := []struct {
		name     string
		in       string
		hosts    []string
		want     string
		problems bool
	}{
		{"unknown host", string(readSeed(t)), []string{"blog", "shpo", "zzz"}, `proxy.toml: there is no host "shpo" (did you mean "shop"?) or "zzz"; the hosts are blog, shop, cloud and git.example.org`, false},
		{"nonsense", string(readSeed(t)), []string{"a b"}, `proxy.toml: there is no host "a b"; the hosts are blog, shop, cloud and git.example.org`, false},
		{"invalid file", "[hosts]\nblog = {}\n", []string{"blog"}, "needs upstream", true},
		{"would be a redirect loop", loop, []string{"status"}, "nothing was changed, because the configuration would not be valid any more: proxy.toml:5:17: hosts.status.online: redirect loop", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, changes, err := SetOnline("proxy.toml", []byte(tt.in), tt.hosts, false)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("SetOnline: %v; want %q", err, tt.want)
			}
			if got != nil || changes != nil {
				t.Errorf("SetOnline = %q, %v; want nothing", got, changes)
			}
			var problems Problems
			if errors.As(err, &problems) != tt.problems {
				t.Errorf("error is Problems: %v; want %v", !tt.problems, tt.problems)
			}
		})
	}
}

// Every valid file of testdata can be edited, and comes back byte for byte.
func TestSetOnlineThereAndBack(t *testing.T) {
	eachFile(t, "valid", func(t *testing.T, path string, data []byte) {
		c, err := Parse(path, data)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, h := range c.Hosts {
			all = append(all, h.Key)
		}
		off := set(t, data, all, false)
		on := set(t, off, all, true)
		if again := set(t, on, all, false); !bytes.Equal(off, again) {
			t.Errorf("off, on, off (-once +again):\n%s", cmp.Diff(string(off), string(again)))
		}
		if again := set(t, off, all, false); !bytes.Equal(off, again) {
			t.Errorf("off twice (-once +twice):\n%s", cmp.Diff(string(off), string(again)))
		}
	})
}

func set(t *testing.T, data []byte, hosts []string, online bool) []byte {
	t.Helper()
	out, _, err := SetOnline("proxy.toml", data, hosts, online)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readSeed(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "valid", "seed.toml"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

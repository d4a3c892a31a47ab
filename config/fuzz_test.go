package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

// addSeeds gives a fuzzer every file of testdata.
func addSeeds(f *testing.F, add func(data []byte)) {
	paths, err := filepath.Glob(filepath.Join("testdata", "*", "*.toml"))
	if err != nil || len(paths) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		add(data)
	}
}

func FuzzParse(f *testing.F) {
	addSeeds(f, func(data []byte) { f.Add(data) })
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("proxy.toml", data)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) || len(problems) == 0 || c != nil {
				t.Fatalf("Parse = %v, %v; want Problems and no Config", c, err)
			}
			lines := bytes.Count(data, []byte("\n")) + 1
			for _, p := range problems {
				if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Message == "" {
					t.Errorf("problem %+v has no place in a file of %d lines", p, lines)
				}
			}
			return
		}
		if again, err := Parse("proxy.toml", data); err != nil || !Equal(c, again) {
			t.Errorf("Parse twice: %v", err)
		}
		// What is accepted here is TOML for everybody else.
		var other map[string]any
		if err := toml.Unmarshal(bytes.TrimPrefix(data, bom), &other); err != nil {
			t.Errorf("accepted, but not TOML: %v", err)
		}
		for _, h := range c.Hosts {
			if len(h.Upstreams) == 0 || h.Upstreams[0].Address == "" || h.StatusPage == "" || h.Answer == "" {
				t.Errorf("incomplete host %+v", h)
			}
		}
	})
}

func FuzzSetOnline(f *testing.F) {
	addSeeds(f, func(data []byte) {
		f.Add(data, "blog", false)
		f.Add(data, "www", true)
	})
	f.Fuzz(func(t *testing.T, data []byte, host string, online bool) {
		before, err := Parse("proxy.toml", data)
		if err != nil {
			if out, _, err := SetOnline("proxy.toml", data, []string{host}, online); err == nil {
				t.Fatalf("an invalid file was edited: %q", out)
			}
			return
		}
		if before.index(host) < 0 && len(host) > 0 {
			host = before.Hosts[int(host[0])%len(before.Hosts)].Key
		}
		given := bytes.Clone(data)
		out, changes, err := SetOnline("proxy.toml", data, []string{host}, online)
		if !bytes.Equal(given, data) {
			t.Fatal("the input was changed")
		}
		var problems Problems
		if errors.As(err, &problems) { // a redirect loop; said before it is made
			if online || !strings.Contains(err.Error(), "redirect loop") {
				t.Errorf("refused: %v", err)
			}
			return
		}
		if err != nil {
			if before.index(host) >= 0 {
				t.Errorf("SetOnline(%q): %v\n%s", host, err, data)
			}
			return
		}
		onlyTheFlag(t, data, out, online)
		after, err := Parse("proxy.toml", out)
		if err != nil {
			t.Fatalf("the result is not valid: %v", err)
		}
		i := before.index(host)
		if after.Hosts[i].Online != online || len(changes) != 1 || changes[0].From != before.Hosts[i].Online {
			t.Errorf("changes = %+v, online = %v; want %v", changes, after.Hosts[i].Online, online)
		}
		if twice := set(t, out, []string{host}, online); !bytes.Equal(out, twice) {
			t.Errorf("twice: %q; want %q", twice, out)
		}
		back, _, err := SetOnline("proxy.toml", out, []string{host}, before.Hosts[i].Online)
		if err == nil && len(out)-len(data) <= 1 && !bytes.Equal(back, data) {
			t.Errorf("there and back: %q; want %q", back, data)
		}
	})
}

// onlyTheFlag checks that out is data but for one flag's value, or for one
// inserted flag.
func onlyTheFlag(t *testing.T, data, out []byte, online bool) {
	t.Helper()
	if bytes.Equal(data, out) {
		return
	}
	start := 0
	for start < min(len(data), len(out)) && data[start] == out[start] {
		start++
	}
	end := 0
	for end < min(len(data), len(out))-start && data[len(data)-1-end] == out[len(out)-1-end] {
		end++
	}
	was, is := string(data[start:len(data)-end]), string(out[start:len(out)-end])
	flips := map[bool][2]string{false: {"tru", "fals"}, true: {"fals", "tru"}}
	if flip := flips[online]; was == flip[0] && is == flip[1] {
		return
	}
	if was == "" && !online && strings.Count(is, "online = false") <= 1 {
		return
	}
	t.Errorf("%q became %q\nin: %q\nout: %q", was, is, data, out)
}

func FuzzHostName(f *testing.F) {
	for _, s := range []string{"blog", "@", "*", "*.example.org", "BÜCHER.example.", "xn--a", "a。b", "192.0.2.1", "a..b", "localhost."} {
		f.Add(s, "example.org")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, s, domain string) {
		if domain != "" {
			var err error
			if domain, err = zoneName(domain); err != nil {
				return
			}
		}
		name, err := hostName(s, domain)
		if err != nil {
			return
		}
		plain := strings.TrimPrefix(name, "*.")
		ok := len(plain) <= 253 && !slices.ContainsFunc(strings.Split(plain, "."), func(l string) bool { return !isLabel(l) })
		if !ok {
			t.Errorf("hostName(%q, %q) = %q, which is no host name", s, domain, name)
		}
		if again, err := hostName(name+".", domain); err != nil || again != name {
			t.Errorf("hostName(%q) = %q, %v; want it unchanged", name+".", again, err)
		}
	})
}

// Planning a window and ending it keep every byte but their own, and mean what
// was asked.
func FuzzMaintenance(f *testing.F) {
	addSeeds(f, func(data []byte) {
		f.Add(data, "shop", "why \"not\"\n\x00", int64(1796036400), int64(5400), int64(0))
		f.Add(data, "*", "", int64(1796036400), int64(86400), int64(600))
	})
	f.Fuzz(func(t *testing.T, data []byte, host, reason string, from, length, drain int64) {
		before, err := Parse("proxy.toml", data)
		if err != nil {
			return
		}
		if i := before.index(host); i < 0 && host != "*" {
			host = before.Hosts[len(host)%len(before.Hosts)].Key
		}
		start := time.Unix(from%(1<<32), 0) // up to 2106
		m := Maintenance{Hosts: []string{host}, From: start, Until: start.Add(time.Duration(length%1e6) * time.Second),
			Drain: time.Duration(drain%90_000) * time.Second, Reason: reason}
		out, err := AddMaintenance("proxy.toml", data, m)
		if err != nil {
			var problems Problems
			if !errors.As(err, &problems) && !edited(m) {
				t.Errorf("AddMaintenance(%+v): %v", m, err)
			}
			return
		}
		after, err := Parse("proxy.toml", out)
		if err != nil {
			t.Fatalf("the result is not valid: %v", err)
		}
		if len(after.Maintenance) > len(before.Maintenance) {
			inserted(t, data, out)
		}
		now := start.Add(-m.Drain)
		hosts := []string{host}
		if host == "*" {
			hosts = nil
			for _, h := range after.Hosts {
				hosts = append(hosts, h.Key)
			}
		}
		online, changes, err := BringOnline("proxy.toml", out, hosts, now)
		if err != nil {
			t.Fatalf("BringOnline(%q): %v\n%s", hosts, err, out)
		}
		checkBrought(t, after, online, changes, now)
		if again, _, err := BringOnline("proxy.toml", online, hosts, now); err != nil || !bytes.Equal(again, online) {
			t.Errorf("BringOnline twice: %v\n%s", err, again)
		}
	})
}

// edited reports whether a window is one that a file can hold.
func edited(m Maintenance) bool { return !m.Until.After(m.From) || m.Drain < 0 || m.Drain > MaxDrain }

// inserted checks that out is data with something put in at one place.
func inserted(t *testing.T, data, out []byte) {
	t.Helper()
	start := 0
	for start < len(data) && data[start] == out[start] {
		start++
	}
	if !bytes.HasSuffix(out, data[start:]) {
		t.Errorf("bytes were changed\nin: %q\nout: %q", data, out)
	}
}

// All offline and back is what was before, to the byte where SetAll could add
// lines of its own.
func FuzzSetAll(f *testing.F) {
	addSeeds(f, func(data []byte) {
		f.Add(data, "shop")
		f.Add(data, "")
	})
	f.Fuzz(func(t *testing.T, data []byte, host string) {
		before, err := Parse("proxy.toml", data)
		if err != nil || before.Offline.All {
			return
		}
		var except []string
		if host != "" {
			except = []string{before.Hosts[len(host)%len(before.Hosts)].Key}
		}
		off, err := SetAll("proxy.toml", data, true, except)
		if err != nil {
			if !strings.Contains(err.Error(), "redirect loop") {
				t.Errorf("SetAll: %v\n%s", err, data)
			}
			return
		}
		if c, err := Parse("proxy.toml", off); err != nil || !c.Offline.All {
			t.Fatalf("all = %v, %v", c, err)
		}
		back, err := SetAll("proxy.toml", off, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		after, err := Parse("proxy.toml", back)
		if err != nil {
			t.Fatal(err)
		}
		own := len(before.Offline.Except) > 0
		if own || except != nil {
			after.Offline.Except = before.Offline.Except // an inline table keeps the list
		}
		if !Equal(before, after) {
			t.Errorf("there and back means something else\nin: %q\nout: %q", data, back)
		}
		exact := strings.Contains(string(off), "all = true"+allMark) && (except == nil || strings.Contains(string(off), "]"+allMark))
		if exact && !bytes.Equal(back, data) {
			t.Errorf("there and back: %q; want %q", back, data)
		}
	})
}

func FuzzUpstream(f *testing.F) {
	for _, s := range []string{"10.1.1.4", "::1", "[::1]:8080", "https://[::1]", "https://app.lan:8443", "h2c://my_app:3000", "unix//run/app.sock", "http://a:443", "https://a:80", "unix:/x/../y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := upstream(s)
		if err != nil {
			return
		}
		if again, err := upstream(u.String()); err != nil || again != u {
			t.Errorf("upstream(%q).String() = %q, which is %+v, %v; want %+v", s, u.String(), again, err, u)
		}
	})
}

func FuzzCronLine(f *testing.F) {
	for _, s := range []string{"0 3 * * 0", "*/5 1-3,7 ? JAN-MAR mon", "TZ=\t1\t2\t3\t4", "@daily 1 2 3 4", "0 0 30 2 *", "0 0 29 2 1", "* * * * 7", "1/0 * * * *"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line, err := cronLine(s)
		if err != nil {
			return
		}
		if again, err := cronLine(line); err != nil || again != line {
			t.Errorf("cronLine(%q) = %q, %v; want it unchanged", line, again, err)
		}
		if gap := leastGap(line); gap < time.Minute {
			t.Errorf("leastGap(%q) = %s; want a minute at least", line, gap)
		}
	})
}

package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSetAll(t *testing.T) {
	const mark = "  # detour offline --all"
	tests := []struct {
		name     string
		in       string
		except   []string
		want     string
		restored string // "" = in
	}{
		{"no table", planHead + planHosts, nil, planHead + "offline.all = true" + mark + "\n" + planHosts, ""},
		{"no table, but some", planHead + planHosts, []string{"blog", "www"},
			planHead + "offline.all = true" + mark + "\noffline.except = [\"blog\", \"shop\"]" + mark + "\n" + planHosts, ""},
		{"nothing before the hosts", "# mine\n[hosts.\"a.example.org\"]\nstatus_page = \"https://status.example.net\"\nupstream = \"10.1.1.4\"\n", []string{"a.example.org"},
			"offline.all = true" + mark + "\noffline.except = [\"a.example.org\"]" + mark + "\n# mine\n[hosts.\"a.example.org\"]\nstatus_page = \"https://status.example.net\"\nupstream = \"10.1.1.4\"\n", ""},
		{"a table", planHead + planHosts + "[offline] # what visitors get\n\n  retry_after = \"1m\"  # soon", []string{"blog"},
			planHead + planHosts + "[offline] # what visitors get\n\n  retry_after = \"1m\"  # soon\n  all = true" + mark + "\n  except = [\"blog\"]" + mark, ""},
		{"an empty table", planHead + planHosts + "[offline] # nothing", nil,
			planHead + planHosts + "[offline] # nothing\nall = true" + mark, ""},
		{"dotted", planHead + "offline.answer = \"redirect\" # plain\n" + planHosts, []string{"blog"},
			planHead + "offline.answer = \"redirect\" # plain\noffline.all = true" + mark + "\noffline.except = [\"blog\"]" + mark + "\n" + planHosts, ""},
		{"the operator's own all", planHead + planHosts + "[offline]\nall  = false # in case of fire\n", nil,
			planHead + planHosts + "[offline]\nall  = true # in case of fire\n", ""},
		{"the operator's own except", planHead + planHosts + "[offline]\nexcept = [ \"blog\" ] # always\n", nil,
			planHead + planHosts + "[offline]\nexcept = [ \"blog\" ] # always\nall = true" + mark + "\n", ""},
		{"another except", planHead + planHosts + "[offline]\nexcept = [\n  \"blog\" ] # always\n", []string{"shop"},
			planHead + planHosts + "[offline]\nexcept = [\"shop\"] # always\nall = true" + mark + "\n",
			planHead + planHosts + "[offline]\nexcept = [\"shop\"] # always\n"},
		{"except none", planHead + planHosts + "[offline]\nexcept = [\"blog\"]\n", []string{},
			planHead + planHosts + "[offline]\nexcept = []\nall = true" + mark + "\n",
			planHead + planHosts + "[offline]\nexcept = []\n"},
		{"inline", planHead + "offline = { retry_after = \"1m\" }\n" + planHosts, []string{"blog"},
			planHead + "offline = { retry_after = \"1m\", all = true, except = [\"blog\"] }\n" + planHosts,
			planHead + "offline = { retry_after = \"1m\", all = false, except = [\"blog\"] }\n" + planHosts},
		{"inline and empty", planHead + "offline = {}\n" + planHosts, nil,
			planHead + "offline = { all = true }\n" + planHosts,
			planHead + "offline = { all = false }\n" + planHosts},
	}
	for _, tt := range tests {
		for form, change := range forms() {
			t.Run(tt.name+"/"+form, func(t *testing.T) {
				in := []byte(change(tt.in))
				got := setAll(t, in, true, tt.except)
				if diff := cmp.Diff(change(tt.want), string(got)); diff != "" {
					t.Fatalf("SetAll (-want +got):\n%s", diff)
				}
				if twice := setAll(t, got, true, tt.except); string(twice) != string(got) {
					t.Errorf("twice: %s", cmp.Diff(string(got), string(twice)))
				}
				restored := tt.restored
				if restored == "" {
					restored = tt.in
				}
				if diff := cmp.Diff(change(restored), string(setAll(t, got, false, nil))); diff != "" {
					t.Errorf("there and back (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func setAll(t *testing.T, data []byte, all bool, except []string) []byte {
	t.Helper()
	out, err := SetAll("proxy.toml", data, all, except)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// One host that comes back before the others stays when all come back.
func TestBringOnlineWhileAllAreOffline(t *testing.T) {
	in := []byte(planHead + planHosts)
	off := setAll(t, in, true, []string{"blog"})
	one, _, err := BringOnline("p", off, []string{"git.example.com"}, at(t, "2026-11-30T22:00:00+11:00"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(one), `offline.except = ["git.example.com", "blog"]  # detour`) {
		t.Errorf("the host is not excepted:\n%s", one)
	}
	want := strings.Replace(string(in), "false", "true", 1)
	if diff := cmp.Diff(want, string(setAll(t, one, false, nil))); diff != "" {
		t.Errorf("back (-want +got):\n%s", diff)
	}
}

// A list of exceptions of the operator's own is afterwards what it was before.
func TestBringOnlineKeepsTheOperatorsExcept(t *testing.T) {
	const mark = "  # detour offline --all\n"
	for _, test := range []struct{ name, own, between string }{
		{"a line", "except = [\"blog\"] # always", "except = [\"shop\"," + mark + "\"git.example.com\"," + mark + "\"blog\"] # always"},
		{"none", "except = []", "except = [\"shop\"," + mark + "\"git.example.com\"," + mark + "]"},
		{"lines", "except = [ # always\n  \"blog\",\n]", "except = [\"shop\"," + mark + "\"git.example.com\"," + mark + " # always\n  \"blog\",\n]"},
	} {
		for form, change := range forms() {
			t.Run(test.name+"/"+form, func(t *testing.T) {
				in := []byte(change(planHead + planHosts + "[offline]\n" + test.own + "\n"))
				off := setAll(t, in, true, nil)
				now := at(t, "2026-11-30T22:00:00+11:00")
				one, _, err := BringOnline("p", off, []string{"git.example.com"}, now)
				if err != nil {
					t.Fatal(err)
				}
				if one, _, err = BringOnline("p", one, []string{"shop"}, now); err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(one), strings.TrimPrefix(change(test.between), string(bom))) {
					t.Errorf("the hosts are not excepted, or not marked:\n%s", one)
				}
				want := strings.Replace(string(in), "false", "true", 1) // git's flag
				if diff := cmp.Diff(want, string(setAll(t, one, false, nil))); diff != "" {
					t.Errorf("back (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestSetAllRefuses(t *testing.T) {
	own := "domain = \"example.org\"\nstatus_page = \"https://status.example.org{uri}\"\n[hosts]\nstatus = { upstream = \"10.1.1.4\", status_page = \"https://example.net\" }\nshop.upstream = \"10.1.1.5\"\n"
	if _, err := SetAll("p", []byte(own), true, nil); err == nil || !strings.Contains(err.Error(), `add "status" to except`) {
		t.Errorf("SetAll with the status page: %v; want the redirect loop", err)
	}
	if _, err := SetAll("p", []byte(own), true, []string{"status"}); err != nil {
		t.Errorf("SetAll but the status page: %v", err)
	}
	if _, err := SetAll("p", []byte(own), true, []string{"statsu"}); err == nil || !strings.Contains(err.Error(), `did you mean "status"?`) {
		t.Errorf("SetAll but a stranger: %v", err)
	}
	if _, err := SetAll("p", []byte("[hosts]"), true, nil); err == nil {
		t.Error("SetAll of an invalid file: no error")
	}
}

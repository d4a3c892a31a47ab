package gateway_test

import (
	"context"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"detour/control"

	"github.com/google/go-cmp/cmp"
)

func TestReload(t *testing.T) {
	a, b := says(t, "a"), says(t, "b")
	before := `[hosts]
one   = { upstream = "` + a + `" }
two   = { upstream = "` + a + `" }
three = { upstream = "` + a + `" }
`
	for _, test := range []struct {
		name, after string
		want        control.Report
	}{
		{"nothing", before, control.Report{Generation: 1, Unchanged: true}},
		{"comment", before + "# a word\n", control.Report{Generation: 1, Unchanged: true}},
		{"added", before + `four = { upstream = "` + a + `" }` + "\n", control.Report{Generation: 2, Added: []string{"four.example.test"}}},
		{"removed", strings.Replace(before, "three", "# three", 1), control.Report{Generation: 2, Removed: []string{"three.example.test"}}},
		{"flipped", strings.Replace(before, `" }`, `", online = false }`, 1), control.Report{Generation: 2, Offline: []string{"one.example.test"}}},
		{"moved", strings.Replace(before, a, b, 1), control.Report{Generation: 2, Changed: []string{"one.example.test"}}},
		{"setting for all", before + "[offline]\nretry_after = \"1m\"\n", control.Report{Generation: 2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, before)
			r.write(t, test.after)
			got := r.Reload(control.ReloadOptions{})
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("Reload() (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \"127.0.0.1:1\" }\n")
	data, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(data string) []string {
		t.Helper()
		if err := os.WriteFile(r.config, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
		report := r.Reload(control.ReloadOptions{})
		if diff := cmp.Diff(report.Restart, r.Status().Restart); diff != "" {
			t.Errorf("Status().Restart differs from the report's (-report +status):\n%s", diff)
		}
		return report.Restart
	}
	changed := strings.Replace(string(data), `http  = "127.0.0.1:0"`, `http = ""`, 1)
	changed = strings.Replace(changed, "/storage", "/elsewhere", 1)
	want := []string{"listen.http", "acme.storage"}
	for range 2 { // it waits for the restart, however often it is read
		if got := reload(changed); !cmp.Equal(got, want) {
			t.Errorf("Restart = %v; want %v", got, want)
		}
	}
	if got := reload(string(data)); got != nil {
		t.Errorf("Restart = %v after the change was taken back; want none", got)
	}
}

// An alias has a certificate of its own, and its trouble shows.
func TestStatusShowsAliasCertificates(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \"127.0.0.1:1\", aliases = [\"uno\"] }\n")
	eventually(t, "the certificate of the alias", func() bool {
		aliases := r.Status().Hosts[0].AliasCertificates
		return len(aliases) == 1 && slices.Equal(aliases[0].Names, []string{"uno.example.test"})
	})
}

func TestRefusedReloadChangesNothing(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	client := r.client(t, "h1")
	r.write(t, "[hosts]\none = { upstream = \"127.0.0.1:1/path\", onlin = false }\n")

	report := r.Reload(control.ReloadOptions{})
	if len(report.Problems) != 2 || report.Generation != 1 {
		t.Errorf("Reload() = %+v; want two problems and generation 1", report)
	}
	for _, p := range report.Problems {
		if !strings.HasPrefix(p, r.config+":") {
			t.Errorf("problem %q does not begin with its place", p)
		}
	}
	if diff := cmp.Diff(report.Problems, r.Status().Problems); diff != "" {
		t.Errorf("Status().Problems differ from the report's (-report +status):\n%s", diff)
	}
	if got, err := get(t.Context(), client, "https://one.example.test/"); err != nil || got.Body != "one" {
		t.Errorf("after the refusal: %+v, %v; want the old upstream's answer", got, err)
	}

	r.write(t, "[hosts]\none = { upstream = \"127.0.0.1:1\" }\n")
	r.reload(t)
	if problems := r.Status().Problems; problems != nil {
		t.Errorf("Status().Problems = %v after a good reload; want none", problems)
	}
}

// A file that was mistaken for a configuration may be of any size: no reload
// takes memory for it.
func TestReloadRefusesHugeFile(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	if err := os.Truncate(r.config, 1<<40); err != nil {
		t.Skipf("no sparse file of 1 TiB here: %v", err)
	}
	report := r.Reload(control.ReloadOptions{})
	if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "larger than") {
		t.Errorf("Reload() = %+v; want one problem, the size", report)
	}
	if got, err := get(t.Context(), r.client(t, "h1"), "https://one.example.test/"); err != nil || got.Body != "one" {
		t.Errorf("after the refusal: %+v, %v; want the upstream's answer", got, err)
	}
}

// The operator who wrote the file can read it; that the gateway cannot is news.
func TestReloadSaysWhoMustRead(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may read everything")
	}
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	if err := os.Chmod(r.config, 0); err != nil {
		t.Fatal(err)
	}
	report := r.Reload(control.ReloadOptions{})
	if len(report.Problems) != 1 || !strings.Contains(report.Problems[0], "readable for the gateway's user") {
		t.Errorf("Reload() = %+v; want one problem, who must be able to read the file", report)
	}
}

// A file that the configuration names is read again, too.
func TestReloadReadsCA(t *testing.T) {
	upstream := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "one") }))
	t.Cleanup(upstream.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	trust := func(der []byte) {
		if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	other, _ := serverCertificate()
	trust(other.Certificate[0])
	r := start(t, `[hosts]
one = { upstream = "`+upstream.URL+`", upstream_tls.ca = "`+ca+`" }
`)
	c := r.client(t, "h1")
	status := func() int {
		got, err := get(t.Context(), c, "https://one.example.test/")
		if err != nil {
			t.Fatal(err)
		}
		return got.Status
	}
	if got := status(); got != http.StatusBadGateway {
		t.Errorf("GET = %d while the upstream's CA is not trusted; want 502", got)
	}
	trust(upstream.Certificate().Raw)
	if report := r.Reload(control.ReloadOptions{}); report.Unchanged || len(report.Problems) > 0 {
		t.Errorf("Reload() = %+v; want that it has seen the file", report)
	}
	if got := status(); got != http.StatusOK {
		t.Errorf("GET = %d when it is; want 200", got)
	}
}

// A host that is added is served at once, with a certificate; one that is
// removed is refused at once.
func TestHostsComeAndGo(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	r.write(t, "[hosts]\ntwo = { upstream = \""+says(t, "two")+"\", aliases = [\"zwei\"] }\n")
	r.reload(t)
	for _, protocol := range protocols {
		client := r.client(t, protocol)
		for _, name := range []string{"two", "zwei"} {
			if got, err := get(t.Context(), client, "https://"+name+".example.test/"); err != nil || got.Body != "two" {
				t.Errorf("%s %s: %+v, %v; want the new host", protocol, name, got, err)
			}
		}
		if got, err := get(t.Context(), client, "https://one.example.test/"); err == nil {
			t.Errorf("%s: the removed host answers %+v; want its handshake refused", protocol, got)
		}
	}
}

func TestWatch(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	generation := func() uint64 { return r.Status().Generation }

	// watch is off: the file may change as it likes. Switched on by a reload,
	// it takes effect without a restart.
	toggle := func(rest string) string {
		data, err := os.ReadFile(r.config)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(rest+string(data), "watch = true\nwatch = true\n", "watch = true\n", 1)
	}
	watched := toggle("watch = true\n")
	if err := os.WriteFile(r.config, []byte(watched), 0o644); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	if generation() != 2 {
		t.Fatalf("generation = %d; want 2", generation())
	}

	t.Run("written in place", func(t *testing.T) {
		if err := os.WriteFile(r.config, []byte(watched+"two = { upstream = \"127.0.0.1:1\" }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "generation 3", func() bool { return generation() == 3 })
	})
	t.Run("replaced, as editors do", func(t *testing.T) {
		temp := filepath.Join(r.dir, ".proxy.toml.swp")
		if err := os.WriteFile(temp, []byte(watched), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, r.config); err != nil {
			t.Fatal(err)
		}
		eventually(t, "generation 4", func() bool { return generation() == 4 })
	})
	t.Run("a bad save", func(t *testing.T) {
		if err := os.WriteFile(r.config, []byte(watched+"two = {\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "problems in the status", func() bool { return len(r.Status().Problems) > 0 })
		if err := os.WriteFile(r.config, []byte(watched+"two = { upstream = \"127.0.0.1:1\" }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "generation 5", func() bool { return generation() == 5 && r.Status().Problems == nil })
	})
	t.Run("gone for a moment", func(t *testing.T) {
		if err := os.Remove(r.config); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(r.config, []byte(watched), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "generation 6", func() bool { return generation() == 6 })
	})
}

// A request that is in flight when its host flips finishes on the old table,
// and is counted until it does.
func TestFlipLeavesRequestsInFlight(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	slow := upstream(t, blockUntil(arrived, release, "done"))
	hosts := "[hosts]\nshop = { upstream = \"" + slow + "\" }\n"
	r := start(t, hosts)

	result := make(chan answer, 1)
	client := r.client(t, "h2")
	go func() {
		got, err := get(context.Background(), client, "https://shop.example.test/checkout")
		if err != nil {
			got.Body = err.Error()
		}
		result <- got
	}()
	receive(t, "the request", arrived)
	r.write(t, strings.Replace(hosts, " }", ", online = false }", 1))
	r.reload(t)
	if n := r.Status().Hosts[0].InFlight; n != 1 {
		t.Errorf("InFlight = %d after the flip; want 1", n)
	}
	close(release)
	if got := receive(t, "the answer", result); got.Body != "done" {
		t.Errorf("the checkout in flight got %+v; want the upstream's answer", got)
	}
	eventually(t, "nothing in flight", func() bool { return r.Status().Hosts[0].InFlight == 0 })
}

// What needs a restart does not change what visitors are told before it.
func TestRestartKeysWaitInTraffic(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	told := func() string {
		t.Helper()
		resp, err := r.client(t, "h1").Get("https://one.example.test/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		plain, err := http.NewRequest(http.MethodGet, "http://"+r.HTTPAddr().String()+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		plain.Host = "one.example.test"
		redirect, err := http.DefaultTransport.RoundTrip(plain)
		if err != nil {
			t.Fatal(err)
		}
		redirect.Body.Close()
		return resp.Header.Get("Alt-Svc") + " " + redirect.Header.Get("Location")
	}
	before := told()
	data, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(data), `https = "127.0.0.1:0"`, "https = \"127.0.0.1:8443\"\nhttp3 = false", 1)
	if err := os.WriteFile(r.config, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	if after := told(); after != before {
		t.Errorf("visitors are told %q after the reload; want %q until the restart", after, before)
	}
}

// A directory in which something is written all the time is never quiet, and
// the file is noticed all the same.
func TestWatchInABusyDirectory(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \"127.0.0.1:1\" }\n")
	data, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	watched := "watch = true\n" + string(data)
	if err := os.WriteFile(r.config, []byte(watched), 0o644); err != nil {
		t.Fatal(err)
	}
	r.reload(t)

	busy, stop := context.WithCancel(t.Context())
	var writer sync.WaitGroup
	defer writer.Wait()
	defer stop()
	writer.Go(func() {
		for n := 0; busy.Err() == nil; n++ {
			os.WriteFile(filepath.Join(r.dir, "noise"), []byte{byte(n)}, 0o644)
			time.Sleep(10 * time.Millisecond) // the noise's rhythm, well below savePause
		}
	})
	if err := os.WriteFile(r.config, []byte(watched+"two = { upstream = \"127.0.0.1:1\" }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the change takes effect", func() bool { return len(r.Status().Hosts) == 2 })
}

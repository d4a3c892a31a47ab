// Package packaging_test holds the service and the package's scripts to what
// the documentation promises.
package packaging_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"detour/config"
)

// tool skips the test when name is not installed.
func tool(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is not installed", name)
	}
}

func TestServiceExposure(t *testing.T) {
	tool(t, "systemd-analyze")
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "./detour.service").CombinedOutput(); err != nil && strings.Contains(string(out), "unrecognized option") {
		t.Skip("this systemd cannot look at a unit that is not loaded")
	}
	// The threshold is ten times the exposure.
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "./detour.service").CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v; want an exposure of at most 2.0\n%s", err, out)
	}
}

func TestUnitsAreUnderstood(t *testing.T) {
	tool(t, "systemd-analyze")
	for _, unit := range []string{"./detour.service", "./detour.socket"} {
		out, _ := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			switch {
			case strings.Contains(line, "notify-reload"): // before systemd 253; Type=notify stands above it
			case strings.Contains(line, "is not executable"): // not installed here
			case strings.Contains(line, "detour."):
				t.Errorf("systemd-analyze verify %s: %s", unit, line)
			}
		}
	}
}

// What the package ships besides the program, made as build does.
func TestManPagesAndCompletions(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("go", "run", "-tags", "docs", "../cmd/detour", "docs", dir).CombinedOutput(); err != nil {
		t.Fatalf("detour docs: %v\n%s", err, out)
	}
	for _, name := range []string{"man/detour-offline.1", "completions/detour.bash", "completions/_detour", "completions/detour.fish"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s is missing or empty (%v)", name, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "man/detour-docs.1")); err == nil {
		t.Error("there is a page about a command that the package does not have")
	}
}

// The package has the pages of docs beside each other, and nothing around them.
func TestPackagedPagesLinkToEachOther(t *testing.T) {
	pages, err := filepath.Glob("../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("Glob() = %v, %v; want pages", pages, err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range regexp.MustCompile(`\]\(([^)\s#]+)`).FindAllSubmatch(text, -1) {
			if target := string(link[1]); !strings.Contains(target, "://") && strings.Contains(target, "/") {
				t.Errorf("%s links to %s, which the package has not at that place", page, target)
			}
		}
	}
}

// A stop timeout below the grace would have systemd kill what still drains.
func TestServiceWaitsForTheDrain(t *testing.T) {
	unit, err := os.ReadFile("detour.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\w+)$`).FindSubmatch(unit)
	if found == nil {
		t.Fatal("detour.service has no TimeoutStopSec")
	}
	timeout, err := time.ParseDuration(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("proxy.toml", []byte("[hosts]\n\"a.example.org\" = { upstream = \"127.0.0.1\", status_page = \"https://status.example.net\" }\n"))
	if err != nil {
		t.Fatal(err)
	}
	if timeout <= cfg.Listen.Grace {
		t.Errorf("TimeoutStopSec = %v; want more than the default grace of %v", timeout, cfg.Listen.Grace)
	}
}

// Go ends a panic, and the watchdog's SIGABRT, with an exit status that tells
// systemd not to start the service again: that of a mistake in the configuration.
func TestServiceIsRestartedAfterACrash(t *testing.T) {
	const crash = "CRASH"
	if os.Getenv(crash) != "" {
		panic("as asked for")
	}
	unit, err := os.ReadFile("detour.service")
	if err != nil {
		t.Fatal(err)
	}
	prevented := regexp.MustCompile(`(?m)^RestartPreventExitStatus=(\d+)$`).FindSubmatch(unit)
	if prevented == nil {
		t.Fatal("detour.service has no RestartPreventExitStatus of one number")
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$")
	cmd.Dir = t.TempDir() // there may be a core
	cmd.Env = append(os.Environ(), crash+"=yes")
	for _, env := range regexp.MustCompile(`(?m)^Environment=(.*)$`).FindAllSubmatch(unit, -1) {
		cmd.Env = append(cmd.Env, string(env[1]))
	}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "as asked for") {
		t.Fatalf("the crash: %v; want one\n%s", err, out)
	}
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got == string(prevented[1]) {
		t.Errorf("a panic ends with status %s, for which systemd does not restart the service", got)
	}
}

// systemctl reload works on every systemd, and asks the gateway that was started.
func TestServiceReloadsWhatItRuns(t *testing.T) {
	unit, err := os.ReadFile("detour.service")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=(.*) run (.*)$`).FindStringSubmatch(string(unit))
	reload := regexp.MustCompile(`(?m)^ExecReload=(.*) reload (.*)$`).FindStringSubmatch(string(unit))
	if start == nil || reload == nil || start[1] != reload[1] || start[2] != reload[2] {
		t.Errorf("ExecStart = %q, ExecReload = %q; want the same program and configuration", start, reload)
	}
}

// An upgrade asks the version that it restarts into, and about the file that the
// service is started with: neither what the PATH has first, nor the package's own
// file where a drop-in names another.
func TestUpgradeChecksWhatTheServiceRuns(t *testing.T) {
	tool(t, "sh")
	unit, err := os.ReadFile("detour.service")
	if err != nil {
		t.Fatal(err)
	}
	start := regexp.MustCompile(`(?m)^ExecStart=((.*) run (.*))$`).FindStringSubmatch(string(unit))
	if start == nil {
		t.Fatal("detour.service has no ExecStart that runs")
	}
	const restart = "systemctl restart detour.service\n"
	check := "nsenter --target 140 --mount runuser -u detour -- " + start[2] + " check " + start[3] + "\n"
	const detour = "detour:detour:"
	tests := []struct {
		name            string
		from            string // the version before
		active, mistake bool
		fails           string // why the restart fails, if it does
		start           string
		user            string // User:Group:SupplementaryGroups
		did, said       string
	}{
		{"upgrade", "1.0", true, false, "", start[1], detour, check + restart, ""},
		{"a mistake", "1.0", true, true, "", start[1], detour, check, "still running in version 1.0"},
		{"debug messages", "1.0", true, true, "", start[1] + " --log-level debug", detour, check, "still running in version 1.0"},
		{"another file", "1.0", true, true, "", start[2] + " run --config /srv/proxy.toml", detour, restart, "not checked"},
		{"another program", "1.0", true, true, "", "/usr/local" + start[1], detour, restart, "not checked"},
		{"another user", "1.0", true, true, "", start[1], "www:detour:", restart, "not checked"},
		{"another group", "1.0", true, true, "", start[1], "detour:www:", restart, "not checked"},
		{"one more group", "1.0", true, true, "", start[1], "detour:detour:ssl-cert", restart, "not checked"},
		{"masked", "1.0", true, false, "masked", "", "::", restart, "still running in version 1.0"},
		{"does not start", "1.0", true, false, "died", start[1], detour, check + restart, "not running"},
		{"stopped", "1.0", false, false, "", start[1], detour, "", ""},
		{"first installation", "", true, false, "", start[1], detour, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			execStart := ""
			if tt.start != "" {
				execStart = fmt.Sprintf("{ path=%s ; argv[]=%s ; ignore_errors=no ; start_time=[Mon 2026-11-23 07:11:36 UTC] ; stop_time=[n/a] ; pid=140 ; code=(null) ; status=0/0 }", strings.Fields(tt.start)[0], tt.start)
			}
			user := strings.Split(tt.user, ":")
			did, said := configure(t, tt.from, map[string]string{
				// As systemctl(1) of 252 and 257 shows them; whatever else is asked for is
				// answered in silence.
				"systemctl": fmt.Sprintf(`fails=%q
					case "$*" in
					"show --property=ExecStart --value detour.service") echo %q ;;
					"show --property=User --value detour.service") echo %q ;;
					"show --property=Group --value detour.service") echo %q ;;
					"show --property=SupplementaryGroups --value detour.service") echo %q ;;
					"show --property=MainPID --value detour.service") echo 140 ;;
					*is-active*) if [ "$fails" = died ] && [ -e "$DID" ]; then exit 3; else exit %d; fi ;;
					restart*) echo "systemctl $*" >>"$DID"; [ -z "$fails" ] ;;
					esac`, tt.fails, execStart, user[0], user[1], user[2], exitStatus(tt.active)),
				"nsenter": fmt.Sprintf(`echo "nsenter $*" >>"$DID"; exit %d`, exitStatus(!tt.mistake)),
			})
			if did != tt.did || !strings.Contains(said, tt.said) || tt.said == "" && said != "" {
				t.Errorf("postinst configure %s did %q and said %q; want %q, %q", tt.from, did, said, tt.did, tt.said)
			}
		})
	}
}

// Only a directory as dpkg unpacks it is given to the group: what the operator
// has made of it since is what the gateway can read.
func TestUpgradeKeepsTheOwner(t *testing.T) {
	tool(t, "sh")
	const given = "chown root:detour /etc/detour\nchmod 0750 /etc/detour\n"
	for _, tt := range []struct{ name, from, is, did string }{
		{"first installation", "", "root:root:750", given},
		{"made before it", "", "root:root:755", given},
		{"removed and installed again", "1.0", "root:root:750", given},
		{"as it was", "1.0", "root:detour:750", ""},
		{"another group", "1.0", "root:www:750", ""},
		{"for all", "1.0", "root:root:755", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			did, said := configure(t, tt.from, map[string]string{
				"stat":      fmt.Sprintf(`[ "$*" = "--format %%U:%%G:%%a /etc/detour" ] && echo %q`, tt.is),
				"chown":     `echo "chown $*" >>"$DID"`,
				"chmod":     `echo "chmod $*" >>"$DID"`,
				"systemctl": `[ "$*" = daemon-reload ]`,
			})
			if did != tt.did || said != "" {
				t.Errorf("postinst configure %s did %q and said %q; want %q and nothing", tt.from, did, said, tt.did)
			}
		})
	}
}

func exitStatus(ok bool) int {
	if ok {
		return 0
	}
	return 1
}

// configure runs postinst where systemd runs, with commands that stand for those
// of the machine: the bodies of shell scripts by their names. It returns what they
// wrote to the file $DID, and what was printed.
func configure(t *testing.T, from string, commands map[string]string) (did, said string) {
	t.Helper()
	script, err := os.ReadFile("postinst")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const booted = "/run/systemd/system" // sd_booted(3)
	if !strings.Contains(string(script), booted) {
		t.Fatalf("postinst does not look at %s", booted)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("postinst", strings.ReplaceAll(string(script), booted, dir))
	for _, name := range []string{"systemd-sysusers", "getent", "stat", "chown", "chmod", "useradd"} { // nothing of the machine changes
		write(name, "#!/bin/sh\n")
	}
	for name, body := range commands {
		write(name, "#!/bin/sh\n"+body+"\n")
	}
	cmd := exec.Command("sh", filepath.Join(dir, "postinst"), "configure", from)
	cmd.Env = []string{"PATH=" + dir, "DID=" + filepath.Join(dir, "did")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("postinst configure %s: %v\n%s", from, err, out)
	}
	done, err := os.ReadFile(filepath.Join(dir, "did"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(done), string(out)
}

func TestScriptsParse(t *testing.T) {
	tool(t, "sh")
	for _, script := range []string{"build", "postinst", "prerm", "postrm"} {
		if out, err := exec.Command("sh", "-n", script).CombinedOutput(); err != nil {
			t.Errorf("sh -n %s: %v\n%s", script, err, out)
		}
	}
}

// Rotating and gzipping a log calls chown, which @privileged takes away; each
// rotation failed then, and every gzip stayed empty.
func TestServiceMayRotateItsLogs(t *testing.T) {
	unit, err := os.ReadFile("detour.service")
	if err != nil {
		t.Fatal(err)
	}
	allowed := false
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllSubmatch(unit, -1) {
		deny := len(m[1]) > 0
		for _, group := range strings.Fields(string(m[2])) {
			switch group {
			case "@system-service", "@privileged", "@chown": // those that hold chown, see systemd-analyze syscall-filter
				allowed = !deny
			}
		}
	}
	if !allowed {
		t.Error("the unit's SystemCallFilter refuses chown")
	}
}

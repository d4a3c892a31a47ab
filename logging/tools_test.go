package logging_test

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"detour/logging"
)

// logForTools writes a log with all kinds of lines and returns its path and
// how many lines are in it, and how many have the status 401.
func logForTools(t *testing.T) (path string, lines, unauthorized int) {
	t.Helper()
	s := newSite(t, func(w http.ResponseWriter, r *http.Request) {
		rec := logging.RecordFrom(w)
		rec.Action, rec.Upstream, rec.RequestID = "proxy", "10.1.1.4:80", "id"
		rec.ClientIP = "192.0.2.9"
		switch r.URL.Path {
		case "/private":
			w.WriteHeader(http.StatusUnauthorized)
		case "/redirect":
			rec.Action, rec.Upstream = "redirect", ""
			w.Header().Set("Location", "https://status.example/?token=a")
			w.WriteHeader(http.StatusFound)
		case "/error":
			rec.Err = io.ErrUnexpectedEOF
			w.WriteHeader(http.StatusBadGateway)
		case "/upgrade":
			rec.Upgraded(http.StatusOK)
		default:
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			io.WriteString(w, "hello")
		}
	})
	for _, proto := range []string{"h1", "h2", "h3"} {
		client, url := s.client(proto)
		for _, path := range []string{"/", "/a%22b?x=%5C&token=secret", "/private", "/redirect", "/error", "/upgrade"} {
			req, _ := http.NewRequest("GET", url+path, nil)
			req.Header.Set("User-Agent", "Mozilla/5.0 (\"X11\"; \\) \xff\u00e9")
			req.Header.Set("Referer", "https://search.example/?q=a\"b")
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			lines++
		}
		lines++ // the upgrade has two
		unauthorized++
	}
	// plaintext, IPv6, and bytes that only a stranger sends
	h := logging.AccessLog(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func() *logging.Sink { return s.sink })
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "[2001:db8::7]:4711"
	r.RequestURI = "/\xff\xfe\u2028\"\\}{"
	h.ServeHTTP(httptest.NewRecorder(), r)
	lines++
	s.lines(lines)
	return s.path, lines, unauthorized
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed", name)
	}
	return path
}

func TestGoAccessReadsEveryLine(t *testing.T) {
	goaccess := tool(t, "goaccess")
	path, lines, _ := logForTools(t)
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command(goaccess, path, "--log-format=CADDY", "--no-global-config", "--no-progress", "-o", report)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("goaccess: %v\n%s", err, out)
	}
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		General struct {
			Total  int `json:"total_requests"`
			Valid  int `json:"valid_requests"`
			Failed int `json:"failed_requests"`
		} `json:"general"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got.General.Total != lines || got.General.Valid != lines || got.General.Failed != 0 {
		t.Errorf("goaccess saw %+v; want %d valid lines", got.General, lines)
	}
}

// The filter of docs/logs.md.
func TestFail2banMatches(t *testing.T) {
	fail2ban := tool(t, "fail2ban-regex")
	path, lines, unauthorized := logForTools(t)
	doc, err := os.ReadFile(filepath.Join("..", "docs", "logs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, filter, found := strings.Cut(string(doc), "# filter.d/detour-auth.conf\n")
	filter, _, closed := strings.Cut(filter, "```")
	if !found || !closed {
		t.Fatal("docs/logs.md has no filter detour-auth.conf")
	}
	conf := filepath.Join(t.TempDir(), "detour-auth.conf")
	if err := os.WriteFile(conf, []byte(filter), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(fail2ban, "--print-all-matched", path, conf).CombinedOutput()
	if err != nil && len(out) == 0 {
		t.Fatalf("fail2ban-regex: %v", err)
	}
	want := regexp.MustCompile(fmt.Sprintf(`Lines: %d lines, 0 ignored, %d matched, %d missed`, lines, unauthorized, lines-unauthorized))
	dates := regexp.MustCompile(fmt.Sprintf(`\[%d\] .*(?i:epoch)`, lines))
	if !want.Match(out) || !dates.Match(out) {
		t.Errorf("fail2ban-regex says\n%s\nwant %v and a date in all %d lines", out, want, lines)
	}
}

// The recipe of docs/logs.md: rename, make anew, SIGHUP, compress later.
func TestLogrotateLosesNoLine(t *testing.T) {
	logrotate := tool(t, "logrotate")
	dir := t.TempDir()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)

	files := logging.NewFiles(slog.New(slog.DiscardHandler))
	request := requests(files.Sink(logging.SinkOptions{Path: filepath.Join(dir, "blog.log")}))
	conf := filepath.Join(t.TempDir(), "logrotate.conf")
	text := fmt.Sprintf("%s/*.log {\n rotate 50\n size 1\n compress\n delaycompress\n missingok\n create 0640\n sharedscripts\n postrotate\n kill -HUP %d\n endscript\n}\n", dir, os.Getpid())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for range 4 {
		for range 300 {
			request(fmt.Sprintf("/%d", sent))
			sent++
		}
		files.Reopen() // logrotate leaves an empty file alone
		cmd := exec.Command(logrotate, "--force", "--state", filepath.Join(filepath.Dir(conf), "state"), conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("logrotate: %v\n%s", err, out)
		}
		request(fmt.Sprintf("/%d", sent))
		sent++
		<-hup
		files.Reopen()
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	lines, names := readAll(t, dir)
	seen := map[string]bool{}
	for _, e := range lines {
		seen[e.Request.URI] = true
	}
	if len(lines) != sent || len(seen) != sent || len(names) != 5 {
		t.Errorf("%d lines, %d different, in %v; want %d in 5 files", len(lines), len(seen), names, sent)
	}
}

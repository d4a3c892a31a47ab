package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"detour/control"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"detour": main})
}

// noPause is GORACE for commands: a program under the race detector pauses for
// a second at its end, so that goroutines may still race. Ours are waited for.
const noPause = "atexit_sleep_ms=0"

// TestScripts plays the stories in testdata/script. Beside testscript's own
// commands they have those of commands, and ${UPSTREAM}, a web server that
// says hello from the host it was asked for.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Deadline:            time.Now().Add(4 * time.Minute), // for all of them, on a slow machine; a gateway that does not end must not hold the test for ten minutes
		Cmds:                commands(),
		Setup: func(env *testscript.Env) error {
			s := &story{release: make(chan struct{})}
			upstream := httptest.NewServer(s)
			env.Defer(upstream.Close)
			env.Values[storyKey{}] = s
			env.Setenv("UPSTREAM", upstream.Listener.Addr().String())
			env.Setenv("ESC", "\x1b") // of a reason that would play with the terminal
			env.Setenv("GORACE", noPause)
			// A developer's own token and service manager stay out of it.
			for _, name := range []string{"CLOUDFLARE_API_TOKEN", "CF_API_TOKEN", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"} {
				env.Setenv(name, "")
			}
			return nil
		},
	})
}

// story is what the commands of one script share. It is the upstream, too.
type story struct {
	release chan struct{}  // lets one request to /slow end
	slow    *http.Response // of begin
}

type storyKey struct{}

// ServeHTTP greets; /slow sends its first line and waits for release before
// the last.
func (s *story) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "hello from %s\n", r.Host)
	if r.URL.Path == "/slow" {
		http.NewResponseController(w).Flush()
		select {
		case <-s.release:
			fmt.Fprintln(w, "the end")
		case <-r.Context().Done():
		}
	}
}

func commands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"expand":  expand,
		"replace": replace,
		"exits":   exits,
		"serving": serving,
		"signal":  sendSignal,
		"await":   await,
		"visit":   visit,
		"open":    open,
		"occupy":  occupy,
		"begin":   begin,
		"finish":  finish,
	}
}

// expand FILE… fills in ${VARIABLES}.
func expand(ts *testscript.TestScript, _ bool, files []string) {
	for _, file := range files {
		write(ts, file, os.Expand(ts.ReadFile(file), ts.Getenv))
	}
}

// replace FILE OLD NEW changes the first OLD; \n in NEW is a new line.
func replace(ts *testscript.TestScript, _ bool, args []string) {
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%q does not stand in %s", args[1], args[0])
	}
	write(ts, args[0], strings.Replace(text, args[1], strings.ReplaceAll(args[2], `\n`, "\n"), 1))
}

func write(ts *testscript.TestScript, file, text string) {
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o644))
}

// exits STATUS COMMAND… runs a command that must end with that status.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var ended *exec.ExitError
	got := 0
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%v: exit status %d; want %d", args[1:], got, want)
	}
}

// status is how the gateway of this story is.
func status(ts *testscript.TestScript) (control.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return control.NewClient(ts.MkAbs("control.sock")).Status(ctx)
}

// serving waits until the story's gateway answers, then sets ${HTTPS} to its
// address.
func serving(ts *testscript.TestScript, _ bool, _ []string) {
	deadline := time.Now().Add(20 * time.Second)
	for {
		st, err := status(ts)
		if err == nil {
			for _, l := range st.Listeners {
				if address, ok := strings.CutPrefix(l, "https tcp "); ok {
					ts.Setenv("HTTPS", address)
					return
				}
			}
			ts.Fatalf("no https listener in %q", st.Listeners)
		}
		if time.Now().After(deadline) {
			ts.Fatalf("no gateway: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// signal NAME signals the story's gateway.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "INT": syscall.SIGINT}
	st, err := status(ts)
	ts.Check(err)
	ts.Check(syscall.Kill(st.PID, signals[args[0]]))
}

// await HOST STATE [CAUSE] waits until the gateway says so of the host.
func await(ts *testscript.TestScript, _ bool, args []string) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		st, err := status(ts)
		ts.Check(err)
		if slices.ContainsFunc(st.Hosts, func(h control.Host) bool {
			return h.Key == args[0] && h.State == args[1] && (len(args) < 3 || h.Cause == args[2])
		}) {
			return
		}
	}
	ts.Fatalf("the host did not become %s", strings.Join(args, " "))
}

// begin HOST starts a request that lasts until finish, and returns when its
// answer has begun.
func begin(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	ts.Value(storyKey{}).(*story).slow = request(ctx, ts, args[0], "/slow")
}

// finish lets the request that began end, and sees that all of it arrives.
func finish(ts *testscript.TestScript, _ bool, _ []string) {
	s := ts.Value(storyKey{}).(*story)
	s.release <- struct{}{}
	body, err := io.ReadAll(s.slow.Body)
	s.slow.Body.Close()
	if err != nil || !strings.HasSuffix(string(body), "the end\n") {
		ts.Fatalf("the request in flight got %q, %v; want it whole", body, err)
	}
}

// visit HOST URI [HEADER]… makes a request through the gateway and prints
// status, Location and body.
func visit(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	resp := request(ctx, ts, args[0], args[1], args[2:]...)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), resp.StatusCode, resp.Header.Get("Location"), string(body))
}

// open FILE opens the link in a file as a browser does, with cookies and
// redirects within its host, and prints status, X-Detour, address and body of
// where it ends.
func open(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b := browser(ctx, ts)
	b.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if req.URL.Host != via[0].URL.Host {
			return http.ErrUseLastResponse
		}
		return nil
	}
	jar, err := cookiejar.New(nil)
	ts.Check(err)
	b.Jar = jar
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSpace(ts.ReadFile(args[0])), nil)
	ts.Check(err)
	resp, err := b.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintln(ts.Stdout(), resp.StatusCode, resp.Header.Get("X-Detour"), resp.Request.URL, string(body))
}

// request asks the story's gateway for a page.
func request(ctx context.Context, ts *testscript.TestScript, host, uri string, header ...string) *http.Response {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+uri, nil)
	ts.Check(err)
	for _, field := range header {
		name, value, _ := strings.Cut(field, ": ")
		req.Header.Add(name, value)
	}
	resp, err := browser(ctx, ts).Do(req)
	ts.Check(err)
	return resp
}

// browser reaches the story's gateway by any name, trusting its local CA.
func browser(ctx context.Context, ts *testscript.TestScript) *http.Client {
	root, err := control.NewClient(ts.MkAbs("control.sock")).LocalRoot(ctx)
	ts.Check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(root)
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", ts.Getenv("HTTPS"))
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// occupy takes a port of its own for the rest of the story and sets ${PORT}.
func occupy(ts *testscript.TestScript, _ bool, _ []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	_, port, err := net.SplitHostPort(l.Addr().String())
	ts.Check(err)
	ts.Setenv("PORT", port)
}

// Every story belongs to a command, so that none is forgotten.
func TestEveryCommandHasAStory(t *testing.T) {
	stories := ""
	files, err := os.ReadDir("testdata/script")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile("testdata/script/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		stories += string(data)
	}
	names := map[string]bool{}
	for _, cmd := range new(program).rootCommand().Commands() {
		names[cmd.Name()] = true
		if !cmd.Hidden && cmd.Example == "" {
			t.Errorf("detour %s has no example in its help", cmd.Name())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !strings.Contains(stories, "detour "+name) {
			t.Errorf("no story uses detour %s", name)
		}
	}
}

package control_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"detour/control"
)

// board is a Switchboard whose answers a test chooses.
type board struct {
	status control.Status
	reload func() control.Report
	root   []byte
	err    error
	retry  chan []string

	options control.ReloadOptions  // of the last reload
	asked   control.ExplainRequest // the last one
	explain control.Explanation
	bypass  string // host and time of the last link
}

func (b *board) Status() control.Status { return b.status }
func (b *board) Reload(o control.ReloadOptions) control.Report {
	b.options = o
	return b.reload()
}
func (b *board) Bypass(host string, d time.Duration) (string, error) {
	b.bypass = host + " " + d.String()
	return "https://shop.example.org/?token", b.err
}
func (b *board) Explain(r control.ExplainRequest) (control.Explanation, error) {
	b.asked = r
	return b.explain, b.err
}
func (b *board) RetryCertificates(names ...string) { b.retry <- names }
func (b *board) LocalRoot() ([]byte, error)        { return b.root, b.err }
func newServer(b *board) *control.Server           { return control.NewServer(b, slog.New(slog.DiscardHandler)) }

// serve starts a server for b and returns a client of it.
func serve(t *testing.T, b *board) (*control.Client, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "run", "control.sock")
	s := newServer(b)
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown() = %v; want nil", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve() = %v; want nil", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after Shutdown: Lstat(socket) = %v; want it gone", err)
		}
	})
	return control.NewClient(path), path
}

func TestStatusArrivesWhole(t *testing.T) {
	want := control.Status{
		Version: "1.2.3", PID: 7, Config: "/etc/detour/proxy.toml", Generation: 4,
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Listeners: []string{"https tcp [::]:443"},
		Hosts: []control.Host{{
			Host: "blog.example.org", Key: "blog", State: "offline", Upstream: "10.1.1.4:80", InFlight: 3,
			LastError:   "dial \x1b[31m",
			Certificate: &control.Certificate{Names: []string{"blog.example.org"}, State: "failing", Error: "HTTP 403"},
		}},
	}
	client, _ := serve(t, &board{status: want})
	got, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Status() (-want +got):\n%s", diff)
	}
}

func TestReload(t *testing.T) {
	for _, want := range []control.Report{
		{Generation: 7, Offline: []string{"blog.example.org"}},
		{Generation: 7, Problems: []string{"proxy.toml:3:1: hosts.blog.upstream: is empty"}},
	} {
		client, _ := serve(t, &board{reload: func() control.Report { return want }})
		got, err := client.Reload(t.Context(), control.ReloadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Reload() (-want +got):\n%s", diff)
		}
	}
}

func TestReloadCarriesTheOptions(t *testing.T) {
	b := &board{reload: func() control.Report { return control.Report{} }}
	client, path := serve(t, b)
	want := control.ReloadOptions{Drain: map[string]time.Duration{"shop.example.org": 10 * time.Minute, "blog.example.org": 0}, End: []string{"cloud.example.org"}}
	if _, err := client.Reload(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.options); diff != "" {
		t.Errorf("options (-want +got):\n%s", diff)
	}
	// A script that sends no body asks for a plain reload.
	resp, err := rawClient(path).Post("http://detour/v1/reload", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if diff := cmp.Diff(control.ReloadOptions{}, b.options); diff != "" || resp.StatusCode != http.StatusOK {
		t.Errorf("without a body: status %d, options (-want +got):\n%s", resp.StatusCode, diff)
	}
}

func TestBypass(t *testing.T) {
	b := new(board)
	client, _ := serve(t, b)
	link, err := client.Bypass(t.Context(), "shop", time.Hour)
	if err != nil || link != "https://shop.example.org/?token" || b.bypass != "shop 1h0m0s" {
		t.Errorf("Bypass() = %q, %v, asked for %q; want the gateway's link", link, err, b.bypass)
	}
	b.err = errors.New("shop.example.org is online")
	if _, err := client.Bypass(t.Context(), "shop", time.Hour); err == nil || !strings.Contains(err.Error(), "shop.example.org is online") {
		t.Errorf("Bypass() = %v; want the gateway's reason", err)
	}
}

func TestExplain(t *testing.T) {
	request := control.ExplainRequest{Method: "POST", URL: "https://shop.example.org/cart", Header: http.Header{"Accept": {"a", "b"}}}
	want := control.Explanation{Host: "shop.example.org", State: "offline", Cause: "window", Until: time.Date(2026, 11, 30, 22, 0, 0, 0, time.UTC), Status: 503, Header: http.Header{"Retry-After": {"60"}}}
	b := &board{explain: want}
	client, _ := serve(t, b)
	got, err := client.Explain(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got) + cmp.Diff(request, b.asked); diff != "" {
		t.Errorf("Explain() (-want +got):\n%s", diff)
	}
	b.err = errors.New("the URL has no host")
	if _, err := client.Explain(t.Context(), request); err == nil || !strings.Contains(err.Error(), "the URL has no host") {
		t.Errorf("Explain() = %v; want the gateway's reason", err)
	}
}

func TestRetryCertificates(t *testing.T) {
	b := &board{retry: make(chan []string, 1)}
	client, _ := serve(t, b)
	if err := client.RetryCertificates(t.Context(), "a.example.org", "b.example.org"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a.example.org", "b.example.org"}, <-b.retry); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestLocalRoot(t *testing.T) {
	client, _ := serve(t, &board{root: []byte("-----BEGIN CERTIFICATE-----\n")})
	got, err := client.LocalRoot(t.Context())
	if err != nil || string(got) != "-----BEGIN CERTIFICATE-----\n" {
		t.Errorf("LocalRoot() = %q, %v; want the PEM", got, err)
	}

	client, _ = serve(t, &board{err: errors.New("open root.crt: no such file")})
	if _, err := client.LocalRoot(t.Context()); err == nil || !strings.Contains(err.Error(), "open root.crt: no such file") {
		t.Errorf("LocalRoot() = %v; want the gateway's reason", err)
	}
}

func TestSocketIsForItsGroupOnly(t *testing.T) {
	_, path := serve(t, &board{})
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o660|fs.ModeSocket {
		t.Errorf("Lstat(%s) = %v, %v; want a socket with mode 0660", path, info.Mode(), err)
	}
	dir := filepath.Dir(path)
	if info, err := os.Lstat(dir); err != nil || info.Mode()&^0o750 != fs.ModeDir { // the umask may take more
		t.Errorf("Lstat(%s) = %v, %v; want a directory with mode 0750", dir, info.Mode(), err)
	}
}

func TestListenRefusesALivingSocket(t *testing.T) {
	client, path := serve(t, &board{status: control.Status{PID: 7}})
	if err := newServer(&board{}).Listen(path); !errors.Is(err, control.ErrInUse) {
		t.Errorf("Listen() = %v; want ErrInUse", err)
	}
	if got, err := client.Status(t.Context()); err != nil || got.PID != 7 {
		t.Errorf("the first gateway: Status() = %v, %v; want it undisturbed", got, err)
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false) // what kill -9 leaves behind
	l.Close()

	if _, err := control.NewClient(path).Status(t.Context()); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("Status() on a stale socket = %v; want ErrNotRunning", err)
	}
	s := newServer(&board{})
	if err := s.Listen(path); err != nil {
		t.Fatalf("Listen() = %v; want the stale socket replaced", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestListenKeepsWhatIsNotASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newServer(&board{}).Listen(path); err == nil || !strings.Contains(err.Error(), "is not a socket") {
		t.Errorf("Listen() = %v; want a refusal", err)
	}
	if data, err := os.ReadFile(path); string(data) != "precious" {
		t.Errorf("the file = %q, %v; want it kept", data, err)
	}
}

func TestListenSaysWhenThePathIsTooLong(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 120))
	if err := newServer(&board{}).Listen(path); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("Listen() = %v; want it to name the limit", err)
	}
}

// What is made for a moment on the way is no name that an operator knows.
func TestListenNamesTheDirectory(t *testing.T) {
	if _, err := os.Stat("/proc/self"); err != nil {
		t.Skip("there is no directory in which nobody may make anything")
	}
	err := newServer(&board{}).Listen("/proc/control.sock")
	if file, ok := errors.AsType[*fs.PathError](err); !ok || file.Path != "/proc" {
		t.Errorf("Listen() = %v; want an error of the directory", err)
	}
}

func TestClientWithoutGateway(t *testing.T) {
	for _, path := range []string{"control.sock", "absent/control.sock"} {
		path = filepath.Join(t.TempDir(), path)
		_, err := control.NewClient(path).Status(t.Context())
		if !errors.Is(err, control.ErrNotRunning) || !strings.Contains(err.Error(), path) {
			t.Errorf("Status() = %v; want ErrNotRunning with the socket's path", err)
		}
	}
}

func TestClientWithoutPermissionNamesTheGroup(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may use every socket")
	}
	_, path := serve(t, &board{})
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := control.NewClient(path).Status(t.Context())
	var denied *control.PermissionError
	if !errors.As(err, &denied) || denied.Group == "" || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("Status() = %#v; want a PermissionError that names the group", err)
	}
}

// rawClient speaks HTTP to the socket, as a stranger's script would.
func rawClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

func TestServerOverHTTP(t *testing.T) {
	b := &board{
		reload: func() control.Report { return control.Report{Problems: []string{"x"}} },
		retry:  make(chan []string, 1),
	}
	_, path := serve(t, b)
	for _, tt := range []struct {
		name, method, path, body string
		want                     int
	}{
		{"status", "GET", "/v1/status", "", 200},
		{"refused reload", "POST", "/v1/reload", "", 422},
		{"reload by GET", "GET", "/v1/reload", "", 405},
		{"unknown path", "GET", "/v2/status", "", 404},
		{"retry", "POST", "/v1/certificates/retry", `{"names":[]}`, 204},
		{"retry without JSON", "POST", "/v1/certificates/retry", `names`, 400},
		{"a body without end", "POST", "/v1/certificates/retry", `{"names":["` + strings.Repeat("x", 1<<20) + `"]}`, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://detour"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := rawClient(path).Do(req)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: status %d; want %d", tt.name, resp.StatusCode, tt.want)
		}
	}
}

func TestClientExplainsAnAnswerItDoesNotKnow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var kind atomic.Int32
	other := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		switch kind.Load() {
		case 0:
			http.NotFound(w, nil)
		case 1:
			w.Write([]byte("<html>"))
		case 2:
			panic(http.ErrAbortHandler)
		}
	})}
	go other.Serve(l)
	defer other.Close()
	for i, want := range []string{"another version", "read the gateway's answer", "ask the gateway on " + path} {
		kind.Store(int32(i))
		if _, err := control.NewClient(path).Status(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Status() = %v; want %q in it", err, want)
		}
	}
}

func TestShutdownWaitsForARunningReload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	began, finish := make(chan struct{}), make(chan struct{})
	s := newServer(&board{reload: func() control.Report {
		close(began)
		<-finish
		return control.Report{Generation: 9}
	}})
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	got := make(chan control.Report, 1)
	go func() {
		r, err := control.NewClient(path).Reload(t.Context(), control.ReloadOptions{})
		if err != nil {
			t.Errorf("Reload() = %v", err)
		}
		got <- r
	}()
	<-began
	down := make(chan error, 1)
	go func() { down <- s.Shutdown(t.Context()) }()
	if err := <-served; err != nil { // Shutdown has begun
		t.Errorf("Serve() = %v; want nil", err)
	}
	close(finish)
	if r := <-got; r.Generation != 9 {
		t.Errorf("the reload in flight answered %+v; want generation 9", r)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown() = %v; want nil", err)
	}
}

func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	finish := make(chan struct{})
	began := make(chan struct{})
	s := newServer(&board{reload: func() control.Report { close(began); <-finish; return control.Report{} }})
	if err := s.Listen(path); err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	lost := make(chan error, 1)
	go func() {
		_, err := control.NewClient(path).Reload(t.Context(), control.ReloadOptions{})
		lost <- err
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown() = %v; want context.DeadlineExceeded", err)
	}
	if err := <-lost; err == nil || errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the reload in flight = %v; want a cut connection", err)
	}
	close(finish)
}

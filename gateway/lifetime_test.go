package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"detour/config"
	"detour/control"
	"detour/gateway"
	"detour/logging"

	"github.com/coder/websocket"
)

// SIGTERM lets a request in flight finish and says goodbye to WebSockets.
func TestDrain(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", blockUntil(arrived, release, "done"))
	mux.HandleFunc("/echo", echo)
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q }\n", upstream(t, mux.ServeHTTP)))

	ws, _, err := websocket.Dial(t.Context(), "wss://shop.example.test/echo", &websocket.DialOptions{HTTPClient: r.client(t, "h1")})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.CloseNow()
	type result struct {
		answer
		err error
	}
	results := make(chan result, len(protocols))
	for _, protocol := range protocols {
		client := r.client(t, protocol)
		go func() {
			got, err := get(t.Context(), client, "https://shop.example.test/slow")
			results <- result{got, err}
		}()
		receive(t, "the request", arrived)
	}

	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	_, _, err = ws.Read(t.Context())
	if got := websocket.CloseStatus(err); got != websocket.StatusGoingAway {
		t.Errorf("the WebSocket ended with %v; want close 1001", err)
	}
	close(release)
	for range protocols {
		if got := receive(t, "an answer", results); got.err != nil || got.Body != "done" {
			t.Errorf("a request in flight got %+v; want it finished", got)
		}
	}
	if err := receive(t, "the end of Run", ended); err != nil {
		t.Errorf("Run() = %v; want nil", err)
	}
	if c, err := net.Dial("tcp", r.HTTPSAddr().String()); err == nil {
		c.Close()
		t.Error("the listener is still open after the drain")
	}
}

// What does not finish is cut at the end of the grace period.
func TestDrainEnds(t *testing.T) {
	arrived := make(chan struct{})
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q }\n", upstream(t, blockUntil(arrived, nil, ""))))
	data, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.config, []byte(strings.Replace(string(data), `grace = "2s"`, `grace = "100ms"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
	failed := make(chan error, 1)
	client := r.client(t, "h1")
	go func() {
		_, err := get(t.Context(), client, "https://shop.example.test/")
		failed <- err
	}()
	receive(t, "the request", arrived)
	if err := r.stop(); err != nil {
		t.Errorf("Run() = %v; want nil", err)
	}
	if err := receive(t, "the answer", failed); err == nil {
		t.Error("a request that hangs got an answer; want it cut")
	}
}

// Close ends a gateway that serves, at once, with all that is in flight.
func TestCloseEndsRun(t *testing.T) {
	arrived := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", blockUntil(arrived, nil, ""))
	mux.HandleFunc("/echo", echo)
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q }\n", upstream(t, mux.ServeHTTP)))
	ws := dial(t, r, "shop")
	defer ws.CloseNow()
	failed := make(chan error, 1)
	client := r.client(t, "h2")
	go func() {
		_, err := get(t.Context(), client, "https://shop.example.test/slow")
		failed <- err
	}()
	receive(t, "the request", arrived)

	r.Close()
	receive(t, "the end of Run", r.ended)
	if err := receive(t, "the answer", failed); err == nil {
		t.Error("a request that hangs got an answer; want it cut")
	}
	if _, _, err := ws.Read(t.Context()); err == nil {
		t.Error("the WebSocket goes on")
	}
}

// The operator who starts it learns that it cannot log, not the first visitor's
// line; and it serves all the same.
func TestUnwritableLogsAreToldAtTheStart(t *testing.T) {
	dir := t.TempDir()
	r := &rig{dir: dir, config: filepath.Join(dir, "proxy.toml"), process: &syncBuffer{}}
	r.write(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil { // where the directory should be
		t.Fatal(err)
	}
	r.run(t, gateway.Options{})
	told := func() int { return strings.Count(r.process.String(), "access log cannot be written") }
	eventually(t, "it is told", func() bool { return told() == 1 })
	if err := r.Status().Logs.Error; err == "" {
		t.Error("the status does not tell")
	}
	if got, err := get(t.Context(), r.client(t, "h2"), "https://one.example.test/"); err != nil || got.Body != "one" {
		t.Errorf("a visitor got %+v, %v; want the upstream's answer", got, err)
	}
}

// Lines that still waited for a disk at the end are not lost in silence.
func TestLinesLostAtTheEndAreTold(t *testing.T) {
	r := start(t, "[hosts]\none = { upstream = \""+says(t, "one")+"\" }\n")
	if err := os.MkdirAll(filepath.Join(r.dir, "log", "one.log"), 0o700); err != nil { // where the file should be
		t.Fatal(err)
	}
	if _, err := get(t.Context(), r.client(t, "h2"), "https://one.example.test/"); err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	if log := r.process.String(); !strings.Contains(log, "1 lines lost") {
		t.Errorf("the process log does not tell of the lost line:\n%s", tail(log))
	}
}

func TestNewIsAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.toml")
	write := func(old, new string) {
		data := strings.Replace(fmt.Sprintf(preamble, dir, *engine), old, new, 1) + "[hosts]\none = { upstream = \"127.0.0.1:1\" }\n"
		if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	open := func() (*gateway.Gateway, error) {
		return gateway.New(gateway.Options{Config: path, Process: logging.NewProcess(io.Discard, logging.JSON, slog.LevelInfo)})
	}
	before := count(t)

	write(`https = "127.0.0.1:0"`, fmt.Sprintf("https = %q", taken.Addr()))
	_, err = open()
	var listenErr *gateway.ListenError
	if !errors.As(err, &listenErr) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("New() with a taken port = %v; want a ListenError that says so", err)
	}

	write(`domain      = "example.test"`, `domain = "-"`)
	_, err = open()
	var problems config.Problems
	if !errors.As(err, &problems) {
		t.Errorf("New() with a mistake = %v; want config.Problems", err)
	}

	write("", "")
	g, err := open()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Run(context.Background()) }()
	for _, https := range []string{"127.0.0.1:0", g.HTTPSAddr().String()} { // the second is what the same command would find
		write(`https = "127.0.0.1:0"`, fmt.Sprintf("https = %q", https))
		if _, err = open(); !errors.Is(err, control.ErrInUse) {
			t.Errorf("a second New() on the same control socket and %s = %v; want control.ErrInUse", https, err)
		}
	}
	g.Close()
	g.Close() // once more changes nothing
	if err := receive(t, "the end of Run", ended); err != nil {
		t.Errorf("Run() = %v; want nil", err)
	}
	eventually(t, "everything is given back", func() bool {
		now := count(t)
		return now.goroutines <= before.goroutines+10 && now.descriptors <= before.descriptors+3
	})
}

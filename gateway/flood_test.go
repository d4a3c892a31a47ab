package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// limit sets how many connections may be open, and reloads.
func (r *rig) limit(t *testing.T, n int) {
	t.Helper()
	data, err := os.ReadFile(r.config)
	if err != nil {
		t.Fatal(err)
	}
	const before = "engine = "
	limited := strings.Replace(string(data), before, fmt.Sprintf("max_connections = %d\n%s", n, before), 1)
	if err := os.WriteFile(r.config, []byte(limited), 0o644); err != nil {
		t.Fatal(err)
	}
	r.reload(t)
}

// While strangers open one connection after the other and leave them idle, who is
// busy notices nothing, and each new one is served.
func TestFloodOfIdleConnections(t *testing.T) {
	const size = 12 << 20 // more than the kernel's buffers hold
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q, log = false }\n", upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/echo":
			echo(w, r)
		case "/download":
			w.Header().Set("Content-Type", "application/octet-stream")
			io.CopyN(w, zeros{}, size)
		default:
			io.WriteString(w, "welcome")
		}
	})))
	const places = 12
	r.limit(t, places)

	ws := dial(t, r, "shop")
	defer ws.CloseNow()
	var downloads []io.ReadCloser
	for _, protocol := range protocols {
		res, err := r.client(t, protocol).Get("https://shop.example.test/download")
		if err != nil {
			t.Fatal(err)
		}
		downloads = append(downloads, res.Body)
	}
	say := func() {
		t.Helper()
		if err := ws.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatalf("the WebSocket: %v", err)
		}
		if _, got, err := ws.Read(t.Context()); err != nil || string(got) != "hello" {
			t.Fatalf("the WebSocket said %q, %v", got, err)
		}
	}
	ask := func(protocol string) {
		t.Helper()
		got, err := get(t.Context(), r.client(t, protocol), "https://shop.example.test/")
		if want := (answer{Status: http.StatusOK, Body: "welcome"}); got != want || err != nil {
			t.Fatalf("a visitor over %s got %v, %v; want %v", protocol, got, err, want)
		}
	}
	for range places {
		ask("h1")
		ask("h2")
		say()
	}
	ask("h3")
	for range places { // silent from the beginning
		c, err := net.Dial("tcp", r.HTTPSAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for range places { // to be redirected: they count, too
		plain := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", r.HTTPAddr().String())
		}}
		t.Cleanup(plain.CloseIdleConnections)
		res, err := plain.RoundTrip(request(t, "http://shop.example.test/"))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	ask("h1")
	say()
	for i, body := range downloads {
		if n, err := io.Copy(io.Discard, body); n != size || err != nil {
			t.Errorf("download %d ended after %d bytes, %v; want %d", i, n, err, size)
		}
		body.Close()
	}
	if !strings.Contains(r.process.String(), "all allowed connections are open") {
		t.Error("no line about the limit")
	}
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

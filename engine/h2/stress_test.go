package h2

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Everything at once, with clients that give up, read slowly and shut down in
// the middle. What arrives must be right; the race detector watches.
func TestStress(t *testing.T) {
	noLeaks(t)
	content := make([]byte, 1<<20)
	for i := range content {
		content[i] = byte(i * i >> 3)
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		w.Header().Set("X-Id", r.Header.Get("X-Id")+r.URL.RawQuery)
		switch r.URL.Path {
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		case "/down":
			w.Header().Set(http.TrailerPrefix+"X-End", "1")
			_, _ = w.Write(content)
		case "/drip":
			for i := range 20 {
				_, _ = w.Write(content[i*100 : i*100+100])
				_ = rc.Flush()
			}
		case "/abort":
			_, _ = w.Write(content[:50000])
			panic(http.ErrAbortHandler)
		case "/late":
			_ = rc.SetWriteDeadline(time.Now().Add(time.Duration(rand.IntN(3)) * time.Millisecond))
			_ = rc.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(3)) * time.Millisecond))
			_, _ = io.Copy(w, r.Body)
			_, _ = w.Write(content)
		case "/leave":
			_, _ = r.Body.Read(make([]byte, 10))
		}
	}, Options{Limits: Limits{Streams: 20}})

	end := time.Now().Add(2 * time.Second)
	var wg sync.WaitGroup
	for range 8 {
		client := transportFor(g.conf)
		for range 4 {
			wg.Go(func() {
				defer client.CloseIdleConnections()
				for time.Now().Before(end) {
					if err := visit(g, client, content); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Go(func() {
		for time.Now().Before(end) {
			time.Sleep(50 * time.Millisecond)
			g.shutdown()
		}
	})
	wg.Wait()
}

// visit makes one request and checks the answer, if there is one.
func visit(g *rig, client *http.Client, content []byte) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	paths := []string{"/echo", "/down", "/drip", "/abort", "/late", "/leave"}
	path := paths[rand.IntN(len(paths))]
	method, sent := "POST", content[:rand.IntN(len(content))]
	if rand.IntN(2) == 0 {
		method, sent = "GET", nil
	}
	if rand.IntN(4) == 0 {
		time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, cancel)
	}
	id := fmt.Sprint(rand.Int64())
	req, _ := http.NewRequestWithContext(ctx, method, g.url(path+"?"+id), bytes.NewReader(sent))
	req.Header.Set("X-Id", id)
	res, err := client.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	if got := res.Header.Get("X-Id"); got != id+id {
		return fmt.Errorf("%s: the answer to %s is that to %s", path, id, got)
	}
	if rand.IntN(4) == 0 {
		_, _ = io.CopyN(io.Discard, res.Body, 20000)
		return nil
	}
	got, err := io.ReadAll(res.Body)
	if err != nil {
		return nil
	}
	want := map[string][]byte{"/echo": sent, "/down": content, "/drip": content[:2000], "/leave": nil}
	if w, ok := want[path]; ok && !bytes.Equal(got, w) {
		return fmt.Errorf("%s: got %d bytes; want %d", path, len(got), len(w))
	}
	if path == "/abort" {
		return fmt.Errorf("%s ended well", path)
	}
	if path == "/down" && res.Trailer.Get("X-End") != "1" {
		return fmt.Errorf("%s: trailer %v", path, res.Trailer)
	}
	return nil
}

// curl is a client that shares no code with us.
func TestCurl(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Read", fmt.Sprint(n, err))
		w.Header().Set(http.TrailerPrefix+"X-Trailer", "last")
		_, _ = io.WriteString(w, strings.Repeat("0123456789", 100_000))
	}, Options{})
	upload := t.TempDir() + "/upload"
	if err := os.WriteFile(upload, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "curl", "-sSk", "--http2", "--max-time", "20", "-o", os.DevNull,
		"-w", "%{http_version} %{http_code} %{size_download} %header{x-read}", "-T", upload, g.url("/")).CombinedOutput()
	if want := "2 200 1000000 5242880 <nil>"; string(out) != want || err != nil {
		t.Errorf("curl says %q, %v; want %q", out, err, want)
	}
}

// h2load is a client that has many streams on the way.
func TestH2Load(t *testing.T) {
	if _, err := exec.LookPath("h2load"); err != nil {
		t.Skip("h2load is not installed (nghttp2-client)")
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(make([]byte, 10_000))
	}, Options{})
	for _, args := range [][]string{
		{"-n", "5000", "-c", "4", "-m", "100"},
		{"-n", "500", "-c", "2", "-m", "10", "-w", "14", "-W", "15"}, // small windows
	} {
		out, err := exec.CommandContext(t.Context(), "h2load", append(args, g.url("/"))...).CombinedOutput()
		if want := args[1] + " succeeded, 0 failed, 0 errored"; !strings.Contains(string(out), want) || err != nil {
			t.Errorf("h2load %v: %v\n%s", args, err, out)
		}
	}
}

package gateway_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"detour/config"

	"github.com/coder/websocket"
)

// TestFlipsUnderFire is the promise of the whole program: one host is flipped
// a thousand times while 64 clients, WebSockets and a download are busy, and
// nobody but that host's new visitors notices. All that decides by itself is
// switched on: a host beside them goes through window after window, another
// one's upstream flaps, and who is to be told of it hangs.
func TestFlipsUnderFire(t *testing.T) {
	flips, clients := 1000, 64
	if testing.Short() {
		flips, clients = 100, 16
	}
	before := count(t)

	t.Run("fire", func(t *testing.T) {
		release := make(chan struct{})
		steady := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/echo":
				echo(w, r)
			case "/download":
				for {
					select {
					case <-release:
						io.WriteString(w, "end")
						return
					case <-r.Context().Done():
						return
					case <-time.After(time.Millisecond):
						io.WriteString(w, strings.Repeat("d", 1024))
						w.(http.Flusher).Flush()
					}
				}
			default:
				io.WriteString(w, "steady")
			}
		})
		flip := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/echo" {
				echo(w, r)
				return
			}
			io.WriteString(w, "flip")
		})
		var probes atomic.Int64
		flapping := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			if probes.Add(1)%2 == 0 {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})
		hanging := upstream(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		windows := ""
		for i, now := 0, time.Now(); i < 20; i++ {
			from := now.Add(time.Duration(i) * 500 * time.Millisecond)
			windows += window("busy", from, from.Add(250*time.Millisecond), "")
		}
		const often = `health = { interval = "1s", timeout = "1s", fails = 1, passes = 1 }`
		const calmly = `health = { interval = "10s", timeout = "10s", fails = 3, passes = 1 }` // the fire makes answers wait
		r := start(t, windows+fmt.Sprintf(`
[notify]
url = "http://%[5]s"
[hosts]
steady = { upstream = [%[1]q, %[2]q], hold = "10s", session = "woocommerce", drain = "1m", auto_offline = true, %[7]s }
flip   = { upstream = %[3]q, online = true, hold = "10s", session = "nextcloud", drain = "1m", auto_offline = true, %[7]s }
busy   = { upstream = %[3]q }
flaps  = { upstream = %[4]q, auto_offline = true, %[6]s }
`, steady, strings.Replace(steady, "127.0.0.1", "localhost", 1), flip, flapping, hanging, often, calmly))

		burning, stop := context.WithCancel(t.Context())
		defer stop()
		var fire sync.WaitGroup
		var served atomic.Int64

		online := answer{Status: 200, Body: "flip"}
		offline := answer{Status: 302, Location: "https://status.example.net/p?q=1"}
		for i := range clients {
			client := r.client(t, protocols[i%len(protocols)])
			fire.Go(func() {
				for n := 0; burning.Err() == nil; n++ {
					url, allowed := "https://steady.example.test/p?q=1", []answer{{Status: 200, Body: "steady"}}
					if n%4 == 0 {
						url, allowed = "https://flip.example.test/p?q=1", []answer{online, offline}
					}
					// The last request may be under way when the fire ends: it must succeed too.
					got, err := get(t.Context(), client, url)
					if err != nil {
						t.Errorf("GET %s: %v", url, err)
						return
					}
					if got != allowed[0] && got != allowed[len(allowed)-1] {
						t.Errorf("GET %s = %+v; want one of %+v", url, got, allowed)
						return
					}
					served.Add(1)
				}
			})
		}
		for _, host := range []string{"steady", "flip"} {
			c := dial(t, r, host)
			fire.Go(func() { talk(t, burning, c, host) })
		}
		fire.Go(func() {
			got, err := get(t.Context(), r.client(t, "h2"), "https://steady.example.test/download")
			if err != nil || !strings.HasSuffix(got.Body, "end") {
				t.Errorf("the download broke after %d bytes: %v", len(got.Body), err)
			}
		})

		// A request that hangs shall say so itself: the fire around it looks like
		// a program that spins and eats memory.
		const patience = 30 * time.Second
		// Nor is a busy machine a hang: what it does in two minutes is enough.
		slow := time.Now().Add(2 * time.Minute)
		probe := r.client(t, "h2")
		for i := range flips {
			up := i%2 == 1
			begun := time.Now()
			if i >= 100 && begun.After(slow) {
				t.Logf("%d flips in two minutes are enough", i)
				break
			}
			if _, err := config.SetOnlineFile(r.config, []string{"flip"}, up); err != nil {
				t.Fatal(err)
			}
			r.reload(t)
			want := offline
			if up {
				want = online
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			got, err := get(ctx, probe, "https://flip.example.test/p?q=1")
			cancel()
			if err != nil || got != want {
				t.Fatalf("after flip %d: %+v, %v; want %+v", i+1, got, err, want)
			}
			if took := time.Since(begun); took > patience {
				t.Fatalf("flip %d took %v", i+1, took)
			}
		}
		stop()
		close(release)
		fire.Wait()
		if log := r.process.String(); !strings.Contains(log, "busy.example.test") || !strings.Contains(log, "flaps.example.test") {
			t.Error("the keeper changed nothing: there was no fire")
		}
		t.Logf("%d requests during %d flips", served.Load(), flips)
		if served.Load() < int64(clients) {
			t.Errorf("only %d requests were served: there was no fire", served.Load())
		}
	})

	// What the gateway used is given back.
	eventually(t, fmt.Sprintf("goroutines, descriptors and memory come back to %+v", before), func() bool {
		now := count(t)
		// A few goroutines of shared pools may stay for a while. Other tests run
		// beside this one, so memory is only asked for its order: 78,000 requests
		// that leak a kilobyte each would show.
		return now.goroutines <= before.goroutines+10 && now.descriptors <= before.descriptors+3 &&
			now.heap <= before.heap+32<<20
	})
}

// echo is an upstream's WebSocket that says everything back.
func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

func dial(t *testing.T, r *rig, host string) *websocket.Conn {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), "wss://"+host+".example.test/echo", &websocket.DialOptions{HTTPClient: r.client(t, "h1")})
	if err != nil {
		t.Fatalf("open WebSocket to %s: %v", host, err)
	}
	return c
}

// talk keeps one WebSocket busy until the fire ends; a break is a failure.
func talk(t *testing.T, burning context.Context, c *websocket.Conn, host string) {
	defer c.CloseNow()
	for n := 0; burning.Err() == nil; n++ {
		want := fmt.Sprint("message ", n)
		if err := c.Write(t.Context(), websocket.MessageText, []byte(want)); err != nil {
			t.Errorf("WebSocket to %s broke at message %d: %v", host, n, err)
			return
		}
		_, got, err := c.Read(t.Context())
		if err != nil || string(got) != want {
			t.Errorf("WebSocket to %s said %q, %v; want %q", host, got, err, want)
			return
		}
	}
}

// resources are what a leak would show in.
type resources struct {
	goroutines, descriptors int
	heap                    uint64 // bytes in use
}

func count(t *testing.T) resources {
	t.Helper()
	runtime.GC()
	runtime.GC() // what sync.Pools keep goes with the second
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	r := resources{goroutines: runtime.NumGoroutine(), heap: memory.HeapAlloc}
	if entries, err := os.ReadDir(filepath.Join("/proc", "self", "fd")); err == nil {
		r.descriptors = len(entries)
	}
	return r
}

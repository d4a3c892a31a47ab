package h2

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"detour/engine/memory"
)

// A client that does not read takes nothing of a budget that is spent, and small
// buffers of what there is besides.
func TestSlowReaderWithScarceMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var taken atomic.Int64
		r, c := pipe(t, func(w http.ResponseWriter, r *http.Request) {
			for {
				n, err := w.Write(make([]byte, 32<<10))
				if err != nil {
					return
				}
				taken.Add(int64(n))
			}
		}, Options{Memory: memory.NewBudget(0)})
		r.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		r.WriteWindowUpdate(0, 1<<30)
		r.headers(1, get(), true)
		synctest.Wait() // until nothing moves
		c.mu.Lock()
		defer c.mu.Unlock()
		if n := cap(c.out); n > scarceOut {
			t.Errorf("%d bytes wait to be written; want at most %d", n, scarceOut)
		}
		if n := taken.Load(); n > 2*scarceOut {
			t.Errorf("%d bytes were taken from the handler; want at most %d", n, 2*scarceOut)
		}
	})
}

// With scarce memory everything still arrives, whichever way it goes, and what was
// taken is given back, however the requests ended.
func TestMemoryIsGivenBack(t *testing.T) {
	body := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{}).Read(body)
	for name, size := range map[string]int{"none": 0, "for one or two": 400 << 10, "plenty": 64 << 20} {
		t.Run(name, func(t *testing.T) {
			budget := memory.NewBudget(8 * int64(size))
			g := start(t, func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				io.Copy(w, r.Body) // sends while it receives
			}, Options{Memory: budget})
			var requests sync.WaitGroup
			for i := range 6 {
				requests.Go(func() {
					res, err := g.client.Post(g.url("/"), "", bytes.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					defer res.Body.Close()
					if i%2 == 1 {
						io.CopyN(io.Discard, res.Body, 100_000)
						return // a reset, in the middle
					}
					if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) {
						t.Errorf("got %d bytes, %v; want the %d that were sent", len(got), err, len(body))
					}
				})
			}
			requests.Wait()
			g.closeAll()
			for deadline := time.Now().Add(10 * time.Second); !budget.Take(size); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("something of the budget was not given back")
				}
			}
			if budget.Take(1) {
				t.Error("more was given back than taken")
			}
		})
	}
}

// A client can send as far ahead of a handler that does not read as memory allows,
// but always as much as HTTP/2 has it send before it is told anything.
func TestUnreadUploads(t *testing.T) {
	for _, tt := range []struct {
		name       string
		size, want int
	}{
		{"none", 0, firstWindow},
		{"for two steps", 3 * firstWindow, 4 * firstWindow},
		{"plenty", 64 << 20, DefaultLimits().StreamWindow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				r, c := pipe(t, func(_ http.ResponseWriter, r *http.Request) { <-release }, Options{Memory: memory.NewBudget(8 * int64(tt.size))})
				defer close(release)
				r.buffer().greet()
				r.headers(1, path("POST", "/"), false)
				sent := 0
				for range 2 * DefaultLimits().StreamWindow / maxData {
					synctest.Wait()
					c.mu.Lock()
					n := min(maxData, c.recvWindow, c.streams[1].recvWindow)
					c.mu.Unlock()
					if n > 0 {
						r.WriteData(1, false, make([]byte, n))
						sent += int(n)
					}
				}
				if sent != tt.want {
					t.Errorf("the client may send %d bytes; want %d", sent, tt.want)
				}
			})
		})
	}
}

// With scarce memory the requests of one connection wait for each other, and all
// have their turn.
func TestFewHandlersWithScarceMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 40
		release := make(chan struct{})
		var running, served atomic.Int64
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			<-release
			running.Add(-1)
			served.Add(1)
		}, Options{Memory: memory.NewBudget(8 * 2 * handlerMemory)})
		r.buffer().greet()
		for i := range uint32(requests) {
			r.headers(2*i+1, get(), true)
		}
		synctest.Wait()
		if n := running.Load(); n != freeHandlers+2 {
			t.Errorf("%d handlers run; want %d, and what there is memory for", n, freeHandlers)
		}
		close(release)
		synctest.Wait()
		if n := served.Load(); n != requests {
			t.Errorf("%d requests were served; want all %d", n, requests)
		}
	})
}

// A request that there was no memory for is served once there is, though none of those
// before it ends.
func TestHandlerWaitsForMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		var running atomic.Int64
		budget := memory.NewBudget(8 * handlerMemory)
		budget.Take(handlerMemory)
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			<-release
		}, Options{Memory: budget})
		r.buffer().greet()
		for i := range uint32(freeHandlers + 1) {
			r.headers(2*i+1, get(), true)
		}
		time.Sleep(5 * memoryRetry)
		synctest.Wait()
		if n := running.Load(); n != freeHandlers {
			t.Errorf("%d handlers run; want %d", n, freeHandlers)
		}
		budget.Give(handlerMemory)
		time.Sleep(2 * memoryRetry)
		synctest.Wait()
		if n := running.Load(); n != freeHandlers+1 {
			t.Errorf("%d handlers run; want the one that waited, too", n)
		}
	})
}

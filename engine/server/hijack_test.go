package server_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Whoever asks whether the client is still there while the handler takes the
// connection starts no watch that would read from it.
func TestHijackBesideContext(t *testing.T) {
	const rounds, message = 200, "hello"
	got := make(chan string, rounds)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hijacked := make(chan struct{})
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				for {
					select {
					case <-hijacked:
						return
					default:
						_ = r.Context().Err()
					}
				}
			})
		}
		c, _, err := http.NewResponseController(w).Hijack()
		close(hijacked)
		asking.Wait()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "taken")
		b, _ := io.ReadAll(c)
		got <- string(b)
	}), nil)
	var clients sync.WaitGroup
	for range rounds {
		clients.Go(func() {
			c, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			_, _ = io.ReadFull(c, make([]byte, len("taken")))
			time.Sleep(50 * time.Millisecond) // longer than a watch takes to begin
			_, _ = io.WriteString(c, message)
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.ReadAll(c)
		})
	}
	clients.Wait()
	stolen := 0
	for range rounds {
		if <-got != message {
			stolen++
		}
	}
	if stolen > 0 {
		t.Errorf("of %d connections that were taken %d were read from by the server", rounds, stolen)
	}
}

package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"
)

func TestServerShutdownWaitsForRequests(t *testing.T) {
	for _, protocol := range []string{"h1", "h2"} {
		t.Run(protocol, func(t *testing.T) {
			arrived, release := make(chan struct{}), make(chan struct{})
			s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				arrived <- struct{}{}
				select {
				case <-release:
				case <-r.Context().Done():
				}
				io.WriteString(w, "done")
			}), nil)
			// One that never finishes its handshake must not hold it up.
			silent, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()

			answers := make(chan string, 1)
			go func() {
				res, err := s.client(t, protocol).Get("https://" + name + "/")
				if err != nil {
					answers <- err.Error()
					return
				}
				b, _ := io.ReadAll(res.Body)
				res.Body.Close()
				answers <- string(b)
			}()
			receive(t, "the request", arrived)
			down := make(chan error, 1)
			go func() { down <- s.server.Shutdown(t.Context()) }()
			s.ended(t)
			if c, err := net.Dial("tcp", s.addr); err == nil {
				c.Close()
				t.Error("still accepting")
			}
			select {
			case err := <-down:
				t.Fatalf("Shutdown = %v before the request was done", err)
			default:
			}
			close(release)
			if got := receive(t, "the answer", answers); got != "done" {
				t.Errorf("answer %q; want it whole", got)
			}
			if err := receive(t, "the end of Shutdown", down); err != nil {
				t.Errorf("Shutdown = %v", err)
			}
		})
	}
}

func TestServerCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	var bodies []io.Closer
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}), nil)
	for _, protocol := range []string{"h1", "h2"} {
		res, err := s.client(t, protocol).Get("https://" + name + "/")
		if err != nil {
			t.Fatal(err)
		}
		bodies = append(bodies, res.Body)
	}
	silent, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.server.Close()
	s.server.Close()
	s.ended(t)
	for _, b := range bodies { // the clients' goroutines
		b.Close()
	}
	eventually(t, "all goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestServerNoticesThatTheClientLeft(t *testing.T) {
	for _, protocol := range []string{"h1", "h2"} {
		arrived, left := make(chan struct{}), make(chan struct{})
		s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(arrived)
			<-r.Context().Done()
			close(left)
		}), nil)
		ctx, leave := context.WithCancel(t.Context())
		req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+name+"/", nil)
		c := s.client(t, protocol)
		go c.Do(req)
		receive(t, "the request", arrived)
		leave()
		select {
		case <-left:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: the request's context lives on after the client left", protocol)
		}
	}
}

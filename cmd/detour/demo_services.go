package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// service is one small web server behind the demonstration's gateway.
type service struct {
	listener net.Listener
	server   *http.Server
	ended    chan struct{}
}

// services are what the demonstration publishes, and where visitors of an
// offline host go.
type services struct{ shop, blog, status *service }

func startServices() (services, error) {
	var s services
	var err error
	start := func(routes map[string]http.HandlerFunc) *service {
		started, startErr := startService(routes)
		err = errors.Join(err, startErr)
		return started
	}
	s.shop = start(map[string]http.HandlerFunc{"/": page("Welcome to the shop."), "/download": download})
	s.blog = start(map[string]http.HandlerFunc{"/": page("Welcome to the blog.")})
	s.status = start(map[string]http.HandlerFunc{"/": page("The status page: we will be back soon.")})
	if err != nil {
		s.close()
	}
	return s, err
}

func startService(routes map[string]http.HandlerFunc) (*service, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start a service: %w", err)
	}
	mux := http.NewServeMux()
	for path, handler := range routes {
		mux.Handle(path, handler)
	}
	s := &service{listener: l, server: &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.server.Serve(l) // its error says that close was called
	}()
	return s, nil
}

func (s *service) address() string { return s.listener.Addr().String() }

func (s services) close() {
	for _, service := range []*service{s.shop, s.blog, s.status} {
		if service != nil {
			service.server.Close()
			<-service.ended
		}
	}
}

func page(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, text) }
}

// The download lasts about a second and a half: long enough to flip a host in
// the middle, short enough to watch.
const (
	downloadLines = 30
	downloadPause = 50 * time.Millisecond
)

func download(w http.ResponseWriter, r *http.Request) {
	for i := range downloadLines {
		fmt.Fprintf(w, "line %d of %d\n", i+1, downloadLines)
		if http.NewResponseController(w).Flush() != nil || r.Context().Err() != nil {
			return
		}
		time.Sleep(downloadPause)
	}
}

package h2

import (
	"net/http"
	"runtime"
	"testing"

	"golang.org/x/net/http2"
)

// A handler that ends its goroutine ends its stream; the request that waits for its
// place is served all the same.
func TestGoexit(t *testing.T) {
	noLeaks(t)
	began, release := make(chan struct{}), make(chan struct{})
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/ends" {
			began <- struct{}{}
			<-release
			runtime.Goexit()
		}
	}, Options{Limits: Limits{Streams: 1}})
	r := g.dial(t)
	r.headers(1, path("GET", "/ends"), true)
	<-began
	r.WriteRSTStream(1, http2.ErrCodeCancel)
	r.headers(3, path("GET", "/ok"), true)
	r.want(nothing) // it waits
	close(release)
	r.until("the answer", endOf(3))
	r.headers(5, path("GET", "/ends"), true)
	<-began
	r.until("a reset", func(f http2.Frame) bool {
		reset, ok := f.(*http2.RSTStreamFrame)
		return ok && reset.StreamID == 5 && reset.ErrCode == http2.ErrCodeInternal
	})
}

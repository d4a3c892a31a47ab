package h2

import (
	"bytes"
	"mime/multipart"
	"net/http"
	"os"
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

// What a form leaves on the disk is removed when its handler has returned.
func TestMultipartForm(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	left := func() int {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		return len(files)
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseMultipartForm(0); err != nil || left() != 1 {
			t.Errorf("ParseMultipartForm = %v and left %d files; want 1", err, left())
		}
	}, Options{})
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	file, _ := parts.CreateFormFile("file", "name")
	file.Write(make([]byte, 11<<20)) // as much as is kept in memory all the same, and more
	parts.Close()
	res, err := g.client.Post(g.url("/"), parts.FormDataContentType(), &form)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	waitFor(t, "the file to be removed", func() bool { return left() == 0 })
}

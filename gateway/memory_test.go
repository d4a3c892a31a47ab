package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"testing"
)

// On a small machine many clients that read nothing, and uploads that no upstream
// reads, leave everybody else a gateway that works.
func TestLittleMemoryForWorkInProgress(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(64 << 20))
	body := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	arrived, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	r := start(t, fmt.Sprintf("[hosts]\nshop = { upstream = %q, online = true }\n", upstream(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hang":
			arrived <- struct{}{}
			<-over
		case "/large":
			w.Write(body)
		default:
			http.NewResponseController(w).EnableFullDuplex()
			io.Copy(w, r.Body)
		}
	})))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 100 {
		c := r.client(t, []string{"h1", "h2"}[i%2])
		if i%4 < 2 {
			res, err := c.Get("https://shop.example.test/large")
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			continue
		}
		req, _ := http.NewRequestWithContext(ctx, "POST", "https://shop.example.test/hang", bytes.NewReader(body))
		go func() {
			if res, err := c.Do(req); err == nil {
				res.Body.Close()
			}
		}()
		receive(t, "an upload", arrived)
	}
	for _, protocol := range []string{"h1", "h2", "h3"} {
		res, err := r.client(t, protocol).Post("https://shop.example.test/", "", bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", protocol, err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%s: %d bytes came back, %v; want the %d that were sent", protocol, len(got), err, len(body))
		}
	}
}

package client

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What was taken of an answer stays what it was when its memory serves others.
func TestReleasedValuesStay(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fields := 1 + len(r.URL.Path)%20 // so that headers grow, and large ones are let go
		for i := range fields {
			w.Header().Add(fmt.Sprint("X-", i), r.URL.Path)
			w.Header().Add(fmt.Sprint("X-", i), "again")
		}
		io.WriteString(w, r.URL.Path)
	}))
	defer upstream.Close()
	addr := upstream.Listener.Addr().String()
	rt := newClient(t, addr, nil)
	var running sync.WaitGroup
	for g := range 4 {
		running.Go(func() {
			before := http.Header{}
			var path string
			for i := range 200 {
				req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s/%d/%s", addr, g, strings.Repeat("x", i%40)), nil)
				if err != nil {
					t.Error(err)
					return
				}
				res, err := rt.RoundTrip(req)
				if err != nil {
					t.Error(err)
					return
				}
				body, err := io.ReadAll(res.Body)
				if string(body) != req.URL.Path || err != nil {
					t.Errorf("%s answered %q, %v", req.URL.Path, body, err)
				}
				for name, values := range before {
					if strings.HasPrefix(name, "X-") && !slices.Equal(values, []string{path, "again"}) {
						t.Errorf("%s of %s became %q", name, path, values)
					}
				}
				if n := len(res.Header) - 3; n != 1+len(req.URL.Path)%20 { // Date, Content-Length, Content-Type
					t.Errorf("%s answered with %d fields: %v", req.URL.Path, n, res.Header)
				}
				before, path = maps.Clone(res.Header), req.URL.Path
				res.Body.Close()
				Release(res)
			}
		})
	}
	running.Wait()
}

func TestReleaseLeavesWhatIsNotOver(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "two pieces")
	}))
	defer upstream.Close()
	addr := upstream.Listener.Addr().String()
	res, err := newClient(t, addr, nil).RoundTrip(request(t, http.MethodGet, addr, nil))
	if err != nil {
		t.Fatal(err)
	}
	Release(res)
	body, err := io.ReadAll(res.Body)
	if string(body) != "two pieces" || err != nil {
		t.Errorf("body of an answer that was released early = %q, %v", body, err)
	}
	res.Body.Close()
	Release(&http.Response{Body: io.NopCloser(strings.NewReader("somebody else's"))})
}

package proxy

import (
	"io"
	"net/http"
	"testing"
)

func TestForwards(t *testing.T) {
	r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Method+" "+r.Host+" "+r.RequestURI)
	}), rigOptions{})
	eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
		res, body := get(t, c, url+"/a?b=1")
		if want := "GET " + host + " /a?b=1"; res.StatusCode != 200 || body != want {
			t.Errorf("GET = %d %q; want 200 %q", res.StatusCode, body, want)
		}
	})
}

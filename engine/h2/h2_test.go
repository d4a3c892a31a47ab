package h2

import (
	"bytes"
	"crypto/rand"
	"io"
	"net/http"
	"testing"
)

func TestServes(t *testing.T) {
	noLeaks(t)
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			io.Copy(w, r.Body)
			return
		}
		io.WriteString(w, r.Proto+" "+r.Host+" "+r.URL.RequestURI())
	}, Options{})
	res, err := g.client.Get(g.url("/a?b=1"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	res.Body.Close()
	if want := "HTTP/2.0 " + g.addr + " /a?b=1"; string(b) != want || err != nil {
		t.Errorf("body = %q, %v; want %q", b, err, want)
	}
	sent := make([]byte, 8<<20)
	rand.Read(sent)
	for _, size := range []int{0, 1, 100, 5000, 16384, 70000, len(sent)} {
		res, err = g.client.Post(g.url("/"), "", bytes.NewReader(sent[:size]))
		if err != nil {
			t.Fatal(err)
		}
		b, err = io.ReadAll(res.Body)
		res.Body.Close()
		if !bytes.Equal(b, sent[:size]) || err != nil {
			t.Errorf("echo of %d bytes: %d bytes, %v", size, len(b), err)
		}
	}
}

package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
)

// Whatever the order of writes and flushes: what the client decodes is what
// the handler wrote, and what was flushed has left.
func FuzzCompress(f *testing.F) {
	f.Add([]byte{1, 0, 200}, uint8(0))
	f.Add([]byte{0, 0, 255, 255, 0, 3}, uint8(1))
	f.Add([]byte{255, 255, 255}, uint8(2))
	f.Add([]byte{7, 0}, uint8(7))
	f.Add([]byte{}, uint8(3))
	f.Fuzz(func(t *testing.T, script []byte, variant uint8) {
		accept := []string{"gzip", "zstd", "gzip, identity;q=0", "br"}[variant%4]
		known := variant&4 != 0
		length := 0
		for _, n := range script {
			length += int(n) * 37
		}
		if length > len(longProse()) {
			return
		}
		rec := httptest.NewRecorder()
		c := newCompressor(rec, accepting(t, "GET", "/", accept), nil)
		c.Header().Set("Content-Type", "text/html")
		if known {
			c.Header().Set("Content-Length", strconv.Itoa(length))
		}
		want := prose(length)
		taken := 0
		for _, n := range script { // 0 flushes
			if n == 0 {
				if err := http.NewResponseController(c).Flush(); err != nil || !rec.Flushed {
					t.Fatalf("Flush: %v", err)
				}
				continue
			}
			m, err := io.WriteString(c, want[taken:taken+int(n)*37])
			if taken += m; err != nil {
				t.Fatalf("Write: %v", err)
			}
		}
		if err := c.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		res := rec.Result()
		raw, _ := io.ReadAll(res.Body)
		if len(raw) == 0 && length == 0 {
			return
		}
		if got := decode(t, res, string(raw)); got != want {
			t.Errorf("%v, %q: the client gets %d bytes; want %d", script, accept, len(got), length)
		}
		if cl := res.Header.Get("Content-Length"); cl != "" && cl != strconv.Itoa(len(raw)) {
			t.Errorf("%v, %q: Content-Length %s of %d bytes", script, accept, cl, len(raw))
		}
	})
}

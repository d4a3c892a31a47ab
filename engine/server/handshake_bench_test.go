package server_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// BenchmarkHandshake opens a connection, asks once and closes, as in the
// scenarios g, g-pq and g-res. Client and server are measured together.
func BenchmarkHandshake(b *testing.B) {
	s := serve(b, http.RedirectHandler("https://status.example/", http.StatusFound), secure)
	for _, kind := range []struct {
		name     string
		curve    tls.CurveID
		sessions tls.ClientSessionCache
	}{
		{"X25519", tls.X25519, nil},
		{"X25519MLKEM768", tls.X25519MLKEM768, nil},
		{"resumed", tls.X25519, tls.NewLRUClientSessionCache(1)},
	} {
		b.Run(kind.name, func(b *testing.B) {
			conf := clientTLS()
			conf.CurvePreferences, conf.ClientSessionCache = []tls.CurveID{kind.curve}, kind.sessions
			br := bufio.NewReader(nil)
			visit := func() {
				nc, err := net.Dial("tcp", s.addr)
				if err != nil {
					b.Fatal(err)
				}
				c := tls.Client(nc, conf)
				defer c.Close()
				if _, err := io.WriteString(c, get); err != nil {
					b.Fatal(err)
				}
				br.Reset(c)
				skipAnswer(b, br)
			}
			visit()
			start := cpu()
			b.ReportAllocs()
			for b.Loop() {
				visit()
			}
			b.ReportMetric(float64((cpu()-start)/time.Duration(b.N)), "cpu-ns/op")
		})
	}
}

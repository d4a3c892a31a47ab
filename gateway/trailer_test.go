package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"testing"
)

// Trailers of a request reach the upstream also when nothing announced them.
func TestUnannouncedRequestTrailers(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.Trailer.Get("X-Sum"))
	})
	r := start(t, fmt.Sprintf("[hosts]\nsum = { upstream = %q }\n", up))
	conf := r.tlsConfig()
	conf.ServerName = "sum.example.test"
	conn, err := tls.Dial("tcp", r.HTTPSAddr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: sum.example.test\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "42" {
		t.Errorf("the upstream saw X-Sum %q, %v; want 42", body, err)
	}
}

// A body whose framing is broken is the client's mistake, and is told so.
func TestBrokenChunksAreABadRequest(t *testing.T) {
	up := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	r := start(t, fmt.Sprintf("[hosts]\nsum = { upstream = %q }\n", up))
	conf := r.tlsConfig()
	conf.ServerName = "sum.example.test"
	for _, body := range []string{"zz\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabc\r\n0\r\nHost: other\r\n\r\n"} {
		conn, err := tls.Dial("tcp", r.HTTPSAddr().String(), conf)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: sum.example.test\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%q: %v; want 400", body, err)
		} else if resp.StatusCode != http.StatusBadRequest || !resp.Close {
			t.Errorf("%q: %d, Close %v; want 400 and a close", body, resp.StatusCode, resp.Close)
		}
		conn.Close()
	}
}

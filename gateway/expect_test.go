package gateway_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// Who waits for "100 Continue" hears a refusal at once, without sending the
// body, and the connection ends: what would come next is not certain.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	r := start(t, "[hosts]\nup = { upstream = \"127.0.0.1:9\", online = false }\n")
	conf := r.tlsConfig()
	conf.ServerName = "up.example.test"
	conf.NextProtos = []string{"http/1.1"}
	conn, err := tls.Dial("tcp", r.HTTPSAddr().String(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, "PUT /a HTTP/1.1\r\nHost: up.example.test\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || !resp.Close {
		t.Errorf("answer = %+v, %v; want 503 and a close", resp, err)
	}
}

package proxy

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"detour/engine/socket"
)

// deafConn does not hear that the other end closed, as if the goroutine that reads had
// not had its turn yet.
type deafConn struct {
	*net.TCPConn
	ended chan struct{} // closed when it may hear it
}

func (c deafConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err != nil {
		<-c.ended
	}
	return n, err
}

// A POST is not sent on a connection that has ended, even if nobody noticed yet.
func TestNoPostOnAnEndedConnection(t *testing.T) {
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		io.Copy(io.Discard, req.Body)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	ended := make(chan struct{})
	var last atomic.Pointer[net.TCPConn]
	o := UpstreamOptions{Scheme: "http", Address: addr}
	http1 := o.transport(func(ctx context.Context) (net.Conn, error) {
		conn, err := o.dial(addr)(ctx)
		if err != nil {
			return nil, err
		}
		last.Store(conn.(*net.TCPConn))
		return deafConn{last.Load(), ended}, nil
	}, nil, 0)
	defer http1.CloseIdleConnections()
	defer close(ended)
	u, err := NewUpstream(o, http1)
	if err != nil {
		t.Fatal(err)
	}
	u.http1 = http1
	r := poolRig(t, NewPool([]*Upstream{u}, nil), nil)
	c := r.client(t, "h2")
	for i := range 3 {
		res, _ := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", strings.NewReader("form")))
		if res.StatusCode != 200 {
			t.Fatalf("POST %d = %d; want 200", i, res.StatusCode)
		}
		eventually(t, "end of the connection", func() bool { return !socket.Quiet(last.Load()) })
	}
}

package gateway_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"detour/gateway"
)

// A moment in which nothing can be sent costs no connection.
func TestQUICServerWithoutNetwork(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENETUNREACH, syscall.EPERM, syscall.EINVAL, syscall.ENOBUFS} {
		t.Run(errno.Error(), func(t *testing.T) {
			t.Parallel()
			udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				t.Fatal(err)
			}
			c := &failingSocket{UDPConn: udp, errno: errno}
			s := &quicServing{addr: udp.LocalAddr().String()}
			s.server = gateway.NewQUICServer(gateway.ServerOptions{
				Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/fail" {
						c.fails.Store(5)
					}
					w.Write(make([]byte, 100<<10))
				}),
				TLS: serverTLS(),
				Log: slog.New(slog.DiscardHandler),
			})
			go s.server.Serve(c)
			t.Cleanup(func() { s.server.Close() })
			client := s.client(t)
			for _, path := range []string{"/", "/fail", "/"} {
				res, err := client.Get("https://" + name + path)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if n != 100<<10 || err != nil {
					t.Errorf("%s gave %d bytes, %v; want %d", path, n, err, 100<<10)
				}
			}
			if c.fails.Load() >= 0 {
				t.Errorf("nothing failed")
			}
		})
	}
}

// failingSocket fails to send so many packets.
type failingSocket struct {
	*net.UDPConn
	errno syscall.Errno
	fails atomic.Int64
}

func (s *failingSocket) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (int, int, error) {
	if s.fails.Add(-1) >= 0 {
		return 0, 0, &net.OpError{Op: "write", Net: "udp", Err: os.NewSyscallError("sendmsg", s.errno)}
	}
	return s.UDPConn.WriteMsgUDP(b, oob, addr)
}

package gateway

import (
	"net"
	"syscall"
	"testing"
)

// A client that vanished is found out, though nobody sets keep-alive on its
// connection.
func TestConnectionsInheritKeepAlive(t *testing.T) {
	l, err := listenTCP("https", "127.0.0.1:0", &inheritedSockets{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for _, want := range []struct{ level, option, value int }{
			{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 15},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15},
			{syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 9},
		} {
			if got, err := syscall.GetsockoptInt(int(fd), want.level, want.option); err != nil || got != want.value {
				t.Errorf("socket option %d = %d, %v; want %d", want.option, got, err, want.value)
			}
		}
	})
}

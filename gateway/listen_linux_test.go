package gateway

import (
	"net"
	"syscall"
	"testing"
	"time"
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

// Of what a client does not read, a small machine's kernel keeps little.
func TestFrugalConnections(t *testing.T) {
	tcp, err := listenTCP("https", "127.0.0.1:0", &inheritedSockets{})
	if err != nil {
		t.Fatal(err)
	}
	l := listeners{https: tcp}
	defer l.close()
	l.beFrugal(64 << 10)
	client, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.(*net.TCPConn).SetReadBuffer(64 << 10)
	c, err := l.https.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sent := 0
	for full := false; !full; { // a write that waits for as long as this does so for ever
		c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		n, err := c.Write(make([]byte, 16<<10))
		sent += n
		full = err != nil
	}
	if most := 1 << 20; sent > most {
		t.Errorf("the kernel took %d bytes for a client that reads nothing; want at most %d", sent, most)
	}
}

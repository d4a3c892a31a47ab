package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"detour/engine/client"
	"detour/engine/socket"

	"golang.org/x/sys/unix"
)

// vanish has the kernel drop all that comes for conn, so that its peer sees a
// machine without power: no end, no reset, no acknowledgment.
func vanish(t *testing.T, conn net.Conn) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K}
	raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	})
	if err != nil {
		t.Error(err)
	}
}

// pairWithPatience returns an upstreamConn and its upstream's end.
func pairWithPatience(t *testing.T, patience time.Duration) (*upstreamConn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	up, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		up.Close()
	})
	return &upstreamConn{Conn: conn, patience: patience, dropIdle: func() {}}, up
}

func TestVanishedUpstream(t *testing.T) {
	t.Parallel()
	conn, up := pairWithPatience(t, 200*time.Millisecond)
	vanish(t, up)
	if _, err := io.WriteString(conn, "is anybody there?"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, client.ErrVanished) {
		t.Errorf("Read: %v; want %v", err, client.ErrVanished)
	}
}

// An upstream that is busy, and even one that reads nothing, is there.
func TestBusyUpstreamIsNotVanished(t *testing.T) {
	t.Parallel()
	const patience = 50 * time.Millisecond
	conn, up := pairWithPatience(t, patience)
	sent := make(chan error)
	go func() {
		_, err := conn.Write(make([]byte, 16<<20)) // more than its socket takes
		sent <- err
	}()
	select {
	case err := <-sent:
		t.Fatalf("Write: %v; want it to wait", err)
	case <-time.After(20 * patience):
	}
	if _, err := io.CopyN(io.Discard, up, 16<<20); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil || conn.vanished.Load() {
		t.Errorf("Write: %v; want none, and the connection whole", err)
	}
}

// Whose requests may be sent twice do not see that their connection was dead.
func TestVanishedUpstreamThatIsBack(t *testing.T) {
	const patience = 200 * time.Millisecond
	for name, transport := range map[string]func(UpstreamOptions, dialFunc) http.RoundTripper{
		"http.Transport": func(o UpstreamOptions, dial dialFunc) http.RoundTripper { return o.transport(dial, nil, patience) },
		"engine/client": func(_ UpstreamOptions, dial dialFunc) http.RoundTripper {
			return client.New(client.Options{Dial: dial, Patience: patience, ResponseTimeout: time.Minute, MaxIdle: 1})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vanishedUpstreamThatIsBack(t, transport)
		})
	}
}

func vanishedUpstreamThatIsBack(t *testing.T, transport func(UpstreamOptions, dialFunc) http.RoundTripper) {
	vanished := make(chan struct{}, 3)
	addr := startRawUpstream(t, func(conn net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		for socket.Busy(conn) {
			time.Sleep(time.Millisecond) // else it sends that again, and so a sign of life
		}
		vanish(t, conn)
		vanished <- struct{}{}
		br.ReadByte() // until the test is over
	})
	o := UpstreamOptions{Scheme: "http", Address: addr}
	u, err := NewUpstream(o, transport(o, o.dial(addr)))
	if err != nil {
		t.Fatal(err)
	}
	r := poolRig(t, NewPool([]*Upstream{u}, nil), nil)
	c := r.client(t, "h2")
	for range 2 {
		if res, body := get(t, c, "https://"+host+"/"); res.StatusCode != 200 {
			t.Fatalf("= %d %q; want 200", res.StatusCode, body)
		}
		<-vanished
	}
	if res, _ := do(t, c, newRequest(t, http.MethodPost, "https://"+host+"/", nil)); res.StatusCode != 502 {
		t.Errorf("POST = %d; want 502, as it may have arrived", res.StatusCode)
	}
}

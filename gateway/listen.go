package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"runtime/debug"
	"strings"
	"syscall"

	"detour/config"
	"detour/engine/socket"

	"github.com/coreos/go-systemd/v22/activation"
)

// listeners are the gateway's sockets. http and quic are nil when off.
type listeners struct {
	https net.Listener
	http  net.Listener
	quic  net.PacketConn
}

// What a client's connection takes, roughly. An idle one over HTTP/1.1 and 2 takes 16
// to 22 KiB and the kernel's part. A slow one, whose client does not read or whose
// upstream does not, takes 110 to 200 KiB with all sockets, if they are frugal and the
// budget is spent.
const (
	idleConnection = 30 << 10
	idleQUIC       = 75 << 10
	slowConnection = 200 << 10
)

// maxConnections is how many connections clients may have: as many as c says, but at
// most a third of the descriptors, because their requests may need as many to
// upstreams, and logs and reloads need some even in a flood. They may also take at
// most half of the memory that the process may use, if there is a limit: idle, for
// the other half is for what they do; on a small machine even if all are slow.
func maxConnections(c *config.Config) int {
	each := int64(idleConnection)
	switch {
	case workMemory().Socket() > 0:
		each = slowConnection
	case c.Listen.HTTP3: // any of them may be
		each = idleQUIC
	}
	most := min(debug.SetMemoryLimit(-1)/2/each, 1<<30)
	if c.Listen.MaxConnections > 0 {
		most = min(most, int64(c.Listen.MaxConnections))
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err == nil {
		most = min(most, int64(min(files.Cur/3, 1<<30)))
	}
	return int(most)
}

// ListenError is an address that could not be listened on. Its text is one
// line with the cause and the remedy.
type ListenError struct {
	Key     string // of [listen]: "https" or "http"
	Network string // "tcp" or "udp"
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	what := fmt.Sprintf("listen on %s %s ([listen] %s)", e.Network, e.Address, e.Key)
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return what + ": the address is in use; stop the other web server there (sudo ss -ltnup shows it) or choose another port"
	case errors.Is(e.Err, fs.ErrPermission):
		return what + ": no right to use a port below 1024; start detour as its service, or run: sudo setcap cap_net_bind_service=+ep $(command -v detour)"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return what + ": this machine does not have that address; use one that `ip address` shows, or only the port"
	}
	return what + ": " + e.Err.Error()
}

func (e *ListenError) Unwrap() error { return e.Err }

// listen opens the sockets cfg asks for, taking those that systemd passed in
// (socket activation, sd_listen_fds(3)) where they fit. All or nothing.
func listen(cfg *config.Config) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
			l = listeners{}
		}
	}()
	passed, err := inherited()
	if err != nil {
		return l, err
	}
	defer passed.close() // what was not taken

	if cfg.Listen.HTTP != "" {
		if l.http, err = listenTCP("http", cfg.Listen.HTTP, passed); err != nil {
			return l, err
		}
	}
	if !cfg.Listen.HTTP3 {
		l.https, err = listenTCP("https", cfg.Listen.HTTPS, passed)
		return l, err
	}
	// Port 0 lets the system choose the TCP port, and its UDP twin may be
	// taken by then: choose again.
	for range 10 {
		if l.https, err = listenTCP("https", cfg.Listen.HTTPS, passed); err != nil {
			return l, err
		}
		l.quic, err = listenUDP("https", l.https.Addr().String(), passed)
		if err == nil || !strings.HasSuffix(cfg.Listen.HTTPS, ":0") {
			return l, err
		}
		l.https.Close()
	}
	return l, err
}

func listenTCP(key, address string, passed *inheritedSockets) (net.Listener, error) {
	if l := passed.tcp(address); l != nil {
		return l, nil
	}
	l, err := listenConfig.Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, &ListenError{Key: key, Network: "tcp", Address: address, Err: err}
	}
	return l, nil
}

func listenUDP(key, address string, passed *inheritedSockets) (net.PacketConn, error) {
	if c := passed.udp(address); c != nil {
		return c, nil
	}
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return nil, &ListenError{Key: key, Network: "udp", Address: address, Err: err}
	}
	return c, nil
}

// describe names each socket: "https tcp [::]:443".
func (l listeners) describe() []string {
	var names []string
	if l.http != nil {
		names = append(names, "http tcp "+l.http.Addr().String())
	}
	if l.https != nil {
		names = append(names, "https tcp "+l.https.Addr().String())
	}
	if l.quic != nil {
		names = append(names, "https udp "+l.quic.LocalAddr().String())
	}
	return names
}

func (l listeners) close() {
	if l.quic != nil {
		l.quic.Close()
	}
	if l.https != nil {
		l.https.Close()
	}
	if l.http != nil {
		l.http.Close()
	}
}

// inheritedSockets are the sockets that systemd opened for us. A socket fits
// an address when their ports are the same.
type inheritedSockets struct {
	listeners []net.Listener
	packets   []net.PacketConn
}

func inherited() (*inheritedSockets, error) {
	s := &inheritedSockets{}
	for _, f := range activation.Files(true) {
		l, listenErr := net.FileListener(f)
		if listenErr == nil {
			s.listeners = append(s.listeners, l)
			f.Close()
			continue
		}
		c, packetErr := net.FilePacketConn(f)
		f.Close()
		if packetErr != nil {
			s.close()
			return nil, fmt.Errorf("take over socket %s from systemd: %w", f.Name(), errors.Join(listenErr, packetErr))
		}
		s.packets = append(s.packets, c)
	}
	return s, nil
}

func (s *inheritedSockets) tcp(address string) net.Listener {
	for i, l := range s.listeners {
		if l != nil && samePort(l.Addr().String(), address) {
			s.listeners[i] = nil
			return l
		}
	}
	return nil
}

func (s *inheritedSockets) udp(address string) net.PacketConn {
	for i, c := range s.packets {
		if c != nil && samePort(c.LocalAddr().String(), address) {
			s.packets[i] = nil
			return c
		}
	}
	return nil
}

func (s *inheritedSockets) close() {
	for _, l := range s.listeners {
		if l != nil {
			l.Close()
		}
	}
	for _, c := range s.packets {
		if c != nil {
			c.Close()
		}
	}
}

func samePort(a, b string) bool {
	_, p, err := net.SplitHostPort(a)
	if err != nil {
		return false
	}
	_, q, err := net.SplitHostPort(b)
	return err == nil && p == q
}

// beFrugal has the kernel hold little for connections, and window bytes of what
// comes on one; 0 = as much as it likes.
func (l *listeners) beFrugal(window int) {
	if window == 0 {
		return
	}
	l.https = frugal{l.https, window}
	if l.http != nil {
		l.http = frugal{l.http, window}
	}
}

// frugal sets options of each connection. The connections would not inherit them
// from a listener of Multipath TCP, as package net makes it.
type frugal struct {
	net.Listener
	window int
}

func (l frugal) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			_ = socket.Frugal(raw, l.window) // it works without
		}
	}
	return c, err
}

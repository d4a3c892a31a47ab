package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"detour/gateway"
	"detour/logging"

	"github.com/spf13/cobra"
)

func (p *program) demoCommand() *cobra.Command {
	once := false
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See it work on this machine alone: no root, no domain, no token",
		Long: `See it work on this machine alone: two small services and a status page, a
gateway in front of them with certificates of its own CA, one host online and
one offline. It shows the answers, flips a host while a download of the other
one runs, prints what to try yourself, and waits for Ctrl-C.

Everything listens on loopback and lives in a temporary directory, which is
removed at the end.`,
		Example: "  detour demo",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			return p.demo(ctx, once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the show")
	return cmd
}

// demo is what the demonstration runs. Its parts end in reverse order.
type demo struct {
	*program
	dir          string   // everything lives here
	config, root string   // files: proxy.toml, the local CA's root
	log          *os.File // the gateway's process log; what it does is not the show
	services     services
	gateway      *gateway.Gateway
}

func (p *program) demo(ctx context.Context, once bool) (err error) {
	dir, err := os.MkdirTemp("", "detour-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The reader of a pipe may leave: `detour demo | head`. The write fails then,
	// where it would end us with the directory still there.
	signal.Ignore(syscall.SIGPIPE)
	defer signal.Reset(syscall.SIGPIPE)
	show := &program{stdout: audience{p.stdout, stop}, stderr: p.stderr}
	d := &demo{program: show, dir: dir, config: filepath.Join(dir, "proxy.toml"), root: filepath.Join(dir, "root.pem")}

	if d.log, err = os.Create(filepath.Join(dir, "process.log")); err != nil {
		return err
	}
	defer d.log.Close()
	if d.services, err = startServices(); err != nil {
		return err
	}
	defer d.services.close()
	if err := d.startGateway(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- d.gateway.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()

	err = d.show(ctx)
	switch {
	case ctx.Err() != nil:
		return nil // asked to end, or left alone: not what broke thereby
	case err != nil || once:
		return err
	}
	d.invite()
	select {
	case <-ctx.Done():
	case err := <-ended:
		ended <- err
	}
	if ctx.Err() == nil {
		return errors.New("the gateway ended by itself")
	}
	return nil
}

// audience is the reader of what the demonstration prints, who ends it by leaving.
type audience struct {
	io.Writer
	left func()
}

func (a audience) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	if err != nil {
		a.left()
	}
	return n, err
}

// startGateway writes the configuration, and again with other ports while
// somebody else takes the chosen ones first.
func (d *demo) startGateway() error {
	process := logging.NewProcess(d.log, logging.Terminal, slog.LevelInfo)
	var err error
	for range 5 {
		if err = os.WriteFile(d.config, []byte(d.proxyTOML(freePort(8443), freePort(8080))), 0o600); err != nil {
			return err
		}
		d.gateway, err = gateway.New(gateway.Options{Config: d.config, Process: process, Version: programVersion()})
		if _, taken := errors.AsType[*gateway.ListenError](err); !taken {
			break
		}
	}
	if err != nil {
		return err
	}
	root, err := d.gateway.LocalRoot()
	if err == nil {
		err = os.WriteFile(d.root, root, 0o600)
	}
	if err != nil {
		d.gateway.Close()
	}
	return err
}

func (d *demo) proxyTOML(https, http int) string {
	return fmt.Sprintf(`domain      = "localhost"
status_page = "http://%s{uri}"

[hosts]
shop = { upstream = %q, online = true }
blog = { upstream = %q, online = false } # the flag

[listen]
https = "127.0.0.1:%d"
http  = "127.0.0.1:%d"
grace = "1s"

[acme]
ca      = "local"
storage = %q

[log]
dir = %q

[control]
socket = %q
`, d.services.status.address(), d.services.shop.address(), d.services.blog.address(), https, http,
		d.dir, d.dir, filepath.Join(d.dir, "control.sock"))
}

// freePort is wanted if it is free for TCP and UDP on loopback, else some
// port that is.
func freePort(wanted int) int {
	for _, port := range []int{wanted, 0, 0, 0} {
		l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		defer l.Close()
		port = l.Addr().(*net.TCPAddr).Port
		if c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}); err == nil {
			c.Close()
			return port
		}
	}
	return wanted // gateway.New will say what is wrong with it
}

func (d *demo) httpsPort() int { return d.gateway.HTTPSAddr().(*net.TCPAddr).Port }

// url is where a host is reached through the gateway.
func (d *demo) url(host, uri string) string {
	return fmt.Sprintf("https://%s:%d%s", host, d.httpsPort(), uri)
}

// client is a visitor that trusts the local CA, reaches every host at the gateway,
// and does not follow redirects.
func (d *demo) client() (*http.Client, error) {
	pem, err := os.ReadFile(d.root)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	address := d.gateway.HTTPSAddr().String()
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", address)
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       30 * time.Second, // the show takes two
	}, nil
}

// invite prints commands to try while the demonstration waits.
func (d *demo) invite() {
	curl := func(options, host string) string {
		return fmt.Sprintf("curl %s--cacert %s --resolve %s:%d:127.0.0.1 %s", options, d.root, host, d.httpsPort(), d.url(host, "/"))
	}
	self := selfCommand()
	lines := []string{
		"# visit both",
		curl("", shopHost),
		curl("", blogHost),
		"# take the blog offline and look again: a page load is redirected, a form gets a 503",
		fmt.Sprintf("%s offline -c %s blog", self, d.config),
		curl("-i ", blogHost),
		curl("-i -d name=value ", blogHost),
		"# bring it back; ask how everything is; read the shop's log and the gateway's",
		fmt.Sprintf("%s online -c %s blog", self, d.config),
		fmt.Sprintf("%s status -c %s", self, d.config),
		fmt.Sprintf("tail -n 3 %s %s", filepath.Join(d.dir, "shop.log"), d.log.Name()),
	}
	if curlHasHTTP3() {
		lines = append(lines, "# over HTTP/3", curl("--http3-only ", shopHost))
	}
	fmt.Fprintf(d.stdout, "\nNow you, from another terminal in this directory:\n\n  %s\n\nCtrl-C ends the demonstration and removes %s.\n",
		strings.Join(lines, "\n  "), d.dir)
}

func curlHasHTTP3() bool {
	out, err := exec.Command("curl", "--version").Output()
	return err == nil && strings.Contains(string(out), "HTTP3")
}

// selfCommand is how to call this program again. `go run` leaves it in Go's
// build cache, a path that nobody wants to type.
func selfCommand() string {
	self, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	if _, err := os.Stat("cmd/detour/main.go"); err == nil && strings.Contains(self, "go-build") {
		return "go run ./cmd/detour"
	}
	if found, err := exec.LookPath("detour"); err == nil && sameFile(found, self) {
		return "detour"
	}
	return self
}

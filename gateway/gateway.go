// Package gateway is the only room that knows the others. It reads the
// configuration, builds a proxy.Table from it, listens, reloads, and ends in
// good order. What the rooms need of the configuration is translated here.
//
// gateway.go is its life from New to Close, listen.go its sockets, systemd.go what
// the service manager is told. A configuration: snapshot.go translates it, reload.go
// puts it in force, watch.go notices that the file has changed. The state of the
// hosts: keeper.go and keeper_host.go, with drain.go and probe.go; notice.go tells
// people. HTTP: engine.go is our own server, server.go, intake.go and idle.go
// are net/http's, quic*.go is HTTP/3. The rest answers the operator's questions.
package gateway

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"detour/acme"
	"detour/config"
	"detour/control"
	"detour/engine/accept"
	"detour/engine/memory"
	engine "detour/engine/server"
	"detour/logging"
	"detour/proxy"

	"golang.org/x/sync/errgroup"
)

// Options are what a Gateway needs beyond its configuration.
type Options struct {
	Config  string             // path of proxy.toml
	Process *logging.Process   // where the gateway speaks
	Version string             // the program's, for status
	Notify  func(state string) // gets sd_notify(3) lines; nil = nobody listens
}

// Gateway is the running whole. New returns it listening; Run serves.
type Gateway struct {
	options Options
	log     *slog.Logger
	started time.Time

	// Fixed from New to the end.
	boot             *config.Config // what sockets and storage were made from
	files            *logging.Files
	manager          *acme.Manager
	handler          *proxy.Handler
	listeners        listeners
	limiter          accept.Limiter
	memory           *memory.Budget                 // of what is on its way
	cloudflareRanges atomic.Pointer[[]netip.Prefix] // fetched; nil = the embedded list
	https            Server
	http             Server      // nil when [listen] http is off
	quic             *QUICServer // nil when http3 is off
	control          *control.Server
	keeper           *keeper

	// current is the configuration in force. Readers load it; only reload and
	// the keeper, under reloading, replace it. What reload does besides, reading
	// files above all, it does under reading alone, which is locked first: a
	// disk that hangs holds up other reloads, and neither the keeper nor the end.
	current   atomic.Pointer[snapshot]
	reading   sync.Mutex
	reloading sync.Mutex
	refused   atomic.Pointer[[]string] // problems of the last refused reload; nil after a good one
	seen      atomic.Pointer[digest]   // of the file that was read last, taken or refused

	running context.Context // until the end begins: from then on nothing is put in force; ends under reloading
	end     context.CancelFunc
	open    context.Context // until Close
	shut    context.CancelFunc
	closed  sync.Once
}

// New reads and validates the configuration, opens the logs and listens. It
// is all or nothing: on an error everything it opened is closed again. It
// never waits for a certificate authority. Errors are config.Problems,
// *ListenError, or name the directory or socket that cannot be used.
func New(o Options) (_ *Gateway, err error) {
	if o.Notify == nil {
		o.Notify = func(string) {}
	}
	if o.Config, err = filepath.Abs(o.Config); err != nil {
		return nil, fmt.Errorf("find the configuration: %w", err)
	}

	g := &Gateway{options: o, log: o.Process.Slog, started: time.Now(), memory: workMemory()}
	g.open, g.shut = context.WithCancel(context.Background())
	g.running, g.end = context.WithCancel(g.open)
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			g.Close()
		}
	}()
	g.boot = cfg
	g.files = logging.NewFiles(g.log)
	g.keeper = newKeeper(g)

	snap, err := g.prepare(cfg, nil)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	g.keeper.follow(nil, snap, control.ReloadOptions{}, now)
	snap, _ = g.keeper.settle(snap, now) // the keeper looks again when it runs
	g.current.Store(snap)
	g.limiter.SetMax(maxConnections(cfg))
	key := g.bypassKey(cfg.ACME.Storage)
	g.handler = proxy.NewHandler(proxy.HandlerOptions{
		Table:     snap.table,
		Log:       g.log,
		Observer:  g.keeper.observe,
		BypassKey: key,
		Memory:    g.memory,
	})

	g.manager, err = acme.New(acme.Options{
		Storage:           cfg.ACME.Storage,
		Log:               g.log,
		Zap:               o.Process.Zap,
		CloudflareBaseURL: os.Getenv(cloudflareBaseURL),
	})
	if err != nil {
		return nil, err
	}
	// First, because another gateway has the ports as well, and is the news.
	g.control = control.NewServer(g, g.log)
	if err := g.control.Listen(cfg.Control.Socket); err != nil {
		return nil, err
	}
	if g.listeners, err = listen(cfg); err != nil {
		return nil, err
	}
	g.listeners.beFrugal(g.memory.Socket())
	g.makeServers(key)
	g.manage(cfg) // nothing is ordered for a gateway that cannot start
	return g, nil
}

// load reads the configuration file.
func (g *Gateway) load() (*config.Config, error) {
	// Before reading it, so that the watcher finds a change in between.
	seen := fingerprint(g.options.Config)
	g.seen.Store(&seen)
	cfg, err := config.Load(g.options.Config)
	if errors.Is(err, fs.ErrPermission) { // detour check finds nothing wrong: it runs as the operator
		err = fmt.Errorf("%w; it must be readable for the gateway's user", err)
	}
	return cfg, err
}

// makeServers makes the server of each listener. key is secret and the same in each
// run.
func (g *Gateway) makeServers(key []byte) {
	newServer := serverOf(g.boot.Listen.Engine)
	options := ServerOptions{
		Handler: g.chain(g.handler),
		TLS:     TLSConfig(g.manager.GetCertificate),
		Log:     g.log,
		Limits:  engine.DefaultLimits(),
		Limiter: &g.limiter,
		Memory:  g.memory,
	}
	g.https = newServer(options)
	if g.listeners.quic != nil {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte("QUIC stateless reset"))
		options.QUICResetKey = mac.Sum(nil)
		g.quic = NewQUICServer(options)
	}
	if g.listeners.http != nil {
		options.TLS = nil
		options.Handler = g.chain(g.handler.RedirectToHTTPS())
		g.http = newServer(options)
	}
}

// chain is what a request passes on its way to h, outermost first.
func (g *Gateway) chain(h http.Handler) http.Handler {
	return logging.AccessLog(h, func() *logging.Sink { return g.current.Load().unowned })
}

// Run serves until ctx is cancelled, then drains for at most the configured
// grace and returns nil; after Close it returns nil at once. It returns an error
// when a listener breaks. Run is called once.
func (g *Gateway) Run(ctx context.Context) error {
	defer g.Close()
	// The servers outlive ctx by the time of draining.
	group, serving := errgroup.WithContext(context.Background())
	serve := func(what string, f func() error) {
		group.Go(func() error {
			if err := f(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("serve %s: %w", what, err)
			}
			return nil
		})
	}
	serve("https", func() error { return g.https.Serve(g.listeners.https) })
	if g.http != nil {
		serve("http", func() error { return g.http.Serve(g.listeners.http) })
	}
	if g.quic != nil {
		serve("http/3", func() error { return g.quic.Serve(g.listeners.quic) })
	}
	serve("the control socket", g.control.Serve)

	background, stop := context.WithCancel(ctx)
	group.Go(func() error { g.watch(background); return nil })
	group.Go(func() error { g.refreshCloudflareRanges(background); return nil })
	group.Go(func() error { g.beat(background); return nil })
	group.Go(func() error { g.keeper.run(background); return nil })

	g.log.Info("serving", "generation", g.current.Load().table.Generation(), "hosts", len(g.current.Load().config.Hosts), "listeners", g.listeners.describe())
	g.notifyReady()

	select {
	case <-ctx.Done():
	case <-g.open.Done():
	case <-serving.Done(): // a listener broke
	}
	stop()
	g.drain()
	g.Close()
	return group.Wait()
}

// drain stops accepting and lets what is in flight finish, for at most the
// configured grace, which is a deadline of its own: the context that asked for
// the end is already over.
func (g *Gateway) drain() {
	g.reloading.Lock()
	g.end()
	g.reloading.Unlock()
	grace := g.current.Load().config.Listen.Grace
	g.notifyStopping(grace)
	g.log.Info("draining", "grace", grace)
	ctx, cancel := context.WithTimeout(g.open, grace)
	defer cancel()

	var group errgroup.Group
	group.Go(func() error { return g.https.Shutdown(ctx) })
	if g.http != nil {
		group.Go(func() error { return g.http.Shutdown(ctx) })
	}
	if g.quic != nil {
		group.Go(func() error { return g.quic.Shutdown(ctx) })
	}
	group.Go(func() error { g.handler.Drain(ctx, closeGoingAway); return nil })
	if err := group.Wait(); err != nil && g.open.Err() == nil {
		g.log.Warn("requests were cut at the end of the grace period", "grace", grace, "error", err)
	}
}

// closeGoingAway is the WebSocket close code of an endpoint that goes away
// (RFC 6455, section 7.4.1). The gateway does not know whether it will be restarted.
const closeGoingAway = 1001

// Close ends everything at once, in the reverse order of birth. It may be
// called at any time, also on a Gateway that New could not finish.
func (g *Gateway) Close() {
	g.closed.Do(func() {
		g.shut()
		if g.quic != nil {
			g.quic.Close()
		}
		if g.http != nil {
			g.http.Close()
		}
		if g.https != nil {
			g.https.Close()
		}
		g.listeners.close()
		// Three seconds are for an answer on its way to the command line and
		// for taking back the DNS records of an order under way.
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if g.control != nil {
			g.control.Shutdown(ctx)
		}
		if g.manager != nil {
			if err := g.manager.Close(ctx); err != nil {
				g.log.Warn("certificates", "error", err)
			}
		}
		g.keeper.close()
		if snap := g.current.Load(); snap != nil {
			for _, u := range snap.upstreams {
				u.Retire()
			}
		}
		if err := g.files.Close(); err != nil {
			g.log.Error("access logs are not complete", "error", err)
		}
	})
}

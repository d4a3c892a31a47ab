package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"os/user"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"detour/config"
	"detour/control"
	"detour/gateway"
	"detour/logging"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/term"
)

func (p *program) runCommand() *cobra.Command {
	var level slog.Level
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Serve until SIGTERM",
		Long: `Serve the hosts of the configuration until SIGTERM or Ctrl-C, then let the
requests in flight finish for at most [listen] grace. A second signal ends at
once. SIGHUP reads the configuration again and opens the log files again.

The process log goes to stderr: readable on a terminal, JSON otherwise, with its
priority in systemd's journal. What visitors do goes to one file per host: see
[log].`,
		Example: `  detour run
  detour run -c /etc/detour/proxy.toml --log-level debug`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := p.configPath()
			if err != nil {
				return err
			}
			return p.serve(cmd.Context(), path, level)
		},
	}
	cmd.Flags().TextVar(&level, "log-level", slog.LevelInfo, "lowest `LEVEL` in the process log: debug, info, warn or error")
	return cmd
}

// configPath is the configuration to use.
func (p *program) configPath() (string, error) {
	path, err := config.Find(p.configFlag)
	if err == nil && p.configFlag != "" {
		if _, statErr := os.Stat(path); errors.Is(statErr, fs.ErrNotExist) {
			err = fmt.Errorf("no configuration: %s does not exist", path)
		}
	}
	if err != nil {
		return "", usageError(err, "detour demo, which needs none, or detour -c FILE with the path of yours")
	}
	return path, nil
}

// echo is how long after the first stop signal another one means the same:
// timeout(1) and some supervisors signal both a process and its group.
const echo = 200 * time.Millisecond

// errImpatient ends a gateway whose operator did not want to wait for the
// requests in flight.
var errImpatient = errors.New("stopped by a second signal before the requests in flight were done")

// serve runs a gateway until ctx ends or a signal does it.
func (p *program) serve(ctx context.Context, path string, level slog.Level) error {
	// Before anything else: SIGHUP would end a program that is starting.
	hangups := make(chan os.Signal, 1) // one is enough: a reload reads everything
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	stops := make(chan os.Signal, 2) // the second must not be lost
	signal.Notify(stops, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(stops)

	if err := mayServe(path); err != nil {
		return err
	}
	limitMemory()
	process := logging.NewProcess(p.stderr, p.logFormat(), level)
	defer zap.RedirectStdLog(process.Zap)() // net/http's transport and certmagic have no other way to say some things
	gw, err := gateway.New(gateway.Options{
		Config:  path,
		Process: process,
		Version: programVersion(),
		Notify:  notifier(process.Slog),
	})
	if err != nil {
		return err
	}

	forgetStartup()
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)

	ctx, drain := context.WithCancel(ctx)
	defer drain()
	look := time.NewTicker(memoryLook)
	defer look.Stop()
	var helpers sync.WaitGroup
	helpers.Go(func() { giveMemoryBack(ctx, look.C) })
	helpers.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				gw.Reload(control.ReloadOptions{}) // reports to the process log
			}
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- gw.Run(ctx) }()

	var stopping time.Time // when the first signal came
	for {
		select {
		case err := <-ended:
			drain()
			helpers.Wait()
			return err
		case <-stops:
			if stopping.IsZero() {
				stopping = time.Now()
				drain()
			} else if time.Since(stopping) > echo {
				gw.Close()
				return errImpatient // nothing is waited for any more
			}
		}
	}
}

// serviceUser is who detour.service runs as.
const serviceUser = "detour"

// mayServe keeps root from writing certificates and logs where the service does.
// The service could not read them at its next start, and visitors would get
// certificates that their browsers warn of.
func mayServe(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	cfg, _, err := parse(path)
	if err != nil {
		return nil // the gateway says all that is wrong
	}
	if owns(serviceUser, cfg.ACME.Storage) {
		return usageError(fmt.Errorf("%s belongs to the user %s, who could not read what root writes there", cfg.ACME.Storage, serviceUser),
			"sudo systemctl start detour, or where there is no systemd, runuser -u detour -- detour run; to try things out beside it, a configuration with [acme] storage, [log] dir and [control] socket of its own")
	}
	return nil
}

// owns reports whether dir is there and belongs to the user of that name.
func owns(name, dir string) bool {
	info, err := os.Stat(dir)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	owner, err := user.LookupId(strconv.FormatUint(uint64(stat.Uid), 10))
	return err == nil && owner.Username == name
}

// notifier speaks sd_notify(3); nil when no service manager listens.
func notifier(log *slog.Logger) func(state string) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("service manager not reached", "error", err)
		}
	}
}

// logFormat is how the process log is written to stderr.
func (p *program) logFormat() logging.Format {
	switch {
	case p.journal:
		return logging.Journal
	case isTerminal(p.stderr):
		return logging.Terminal
	}
	return logging.JSON
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"detour/config"
	"detour/control"

	"github.com/spf13/cobra"
)

// socketLine finds control.socket in a file that may be no valid TOML.
var socketLine = regexp.MustCompile(`(?m)^[^#\n]*\bsocket\s*=\s*["']([^"'\n]+)["']`)

// parse reads a configuration without looking at the files it names: a member
// of the gateway's group may flip hosts without being able to read the token.
// Its bytes are returned whether they are valid or not.
func parse(path string) (*config.Config, []byte, error) {
	data, err := config.Read(path)
	if err != nil {
		return nil, nil, notRead(path, err)
	}
	cfg, err := config.Parse(path, data)
	return cfg, data, err
}

// notRead is the error of reading a configuration, with the remedy where the
// operator lacks the permission.
func notRead(path string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return &operatorError{err, joinGroup(control.GroupOf(path)), exitFailed}
	}
	return err
}

// asking is the RunE of a command that talks to a running gateway: it calls f with
// the configuration's path and a client for its gateway.
func (p *program) asking(f func(ctx context.Context, path string, gw *control.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		path, err := p.configPath()
		if err != nil {
			return err
		}
		gw, err := client(path)
		if err != nil {
			return err
		}
		return f(cmd.Context(), path, gw, args)
	}
}

// client returns a client for the gateway of the configuration at path. The file
// may have mistakes: after a refused reload is just when an operator asks.
func client(path string) (*control.Client, error) {
	cfg, data, err := parse(path)
	if err == nil {
		return control.NewClient(cfg.Control.Socket), nil
	}
	if _, mistaken := errors.AsType[config.Problems](err); !mistaken {
		return nil, err
	}
	socket := defaultSocket()
	if found := socketLine.FindSubmatch(data); found != nil {
		socket = string(found[1])
	}
	if !filepath.IsAbs(socket) {
		socket = filepath.Join(filepath.Dir(path), socket) // as config reads it
	}
	return control.NewClient(socket), nil
}

func defaultSocket() string {
	for _, key := range config.Reference() {
		if key.Name == "control.socket" {
			return strings.Trim(key.Default, `"`)
		}
	}
	return ""
}

// fullName is the canonical name of a host that an operator named. If the file
// has mistakes, so that it cannot complete the name, it is taken as it is.
func fullName(path, named string) string {
	cfg, _, err := parse(path)
	if err != nil {
		return named
	}
	if name, err := cfg.FullName(named); err == nil {
		return name
	}
	return named
}

// hostOf finds a host by its canonical name; nil = the gateway has none.
func hostOf(st control.Status, name string) *control.Host {
	return hostWhere(st, func(h *control.Host) bool { return h.Host == name })
}

// hostNamed finds a host by its key, or by a full name, which may be an alias;
// nil = the gateway has none.
func hostNamed(st control.Status, key, name string) *control.Host {
	return cmp.Or(
		hostWhere(st, func(h *control.Host) bool { return h.Key == key }),
		hostWhere(st, func(h *control.Host) bool { return h.Host == name || slices.Contains(h.Aliases, name) }))
}

func hostWhere(st control.Status, is func(*control.Host) bool) *control.Host {
	for i := range st.Hosts {
		if h := &st.Hosts[i]; is(h) {
			return h
		}
	}
	return nil
}

func noSuchHost(named string) error {
	return usageError(fmt.Errorf("the running gateway has no host %q", named), "detour status, which lists them")
}

// sameFile reports whether two paths lead to one file; paths that cannot be
// looked at are compared as text.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	a, _ = filepath.Abs(a) // only fails without a working directory
	return a == b
}

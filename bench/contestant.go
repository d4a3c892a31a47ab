//go:build linux

package main

import (
	"context"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// caddyVersion is the Caddy that is measured. Debian's is years behind, so it
// is built from its module, once, into the user's cache.
const caddyVersion = "v2.11.9"

// contestant is a proxy that can be measured.
type contestant struct {
	name      string
	binary    string
	version   string
	http3     bool
	zstd      bool
	configure func(s site) (args []string, err error) // writes the configuration into s.Dir
}

// findContestants builds detour, which comes first, and finds the peers. A peer
// that is not there is left out; missing says which and how to get it.
func findContestants(ctx context.Context, o options, dir string, progress io.Writer) (found []contestant, missing []string, err error) {
	detour, err := findDetour(ctx, o, dir, progress)
	if err != nil {
		return nil, nil, err
	}
	standard := detour
	standard.name, standard.configure = "detour on net/http", configureNetHTTP
	found = append(found, detour, standard)
	for _, peer := range o.peers {
		c, err := findPeer(ctx, o, peer, progress)
		if err != nil {
			missing = append(missing, fmt.Sprintf("%s is left out: %v", peer, err))
			fmt.Fprintln(progress, missing[len(missing)-1])
			continue
		}
		found = append(found, c)
	}
	return found, missing, nil
}

// knownPeers are whom detour can be measured with, in the table's order.
var knownPeers = []string{"nginx", "haproxy", "caddy"}

func findPeer(ctx context.Context, o options, peer string, progress io.Writer) (contestant, error) {
	switch peer {
	case "nginx":
		return findInstalled(ctx, "nginx", "nginx", configureNginx)
	case "haproxy":
		return findInstalled(ctx, "haproxy", "HAProxy", configureHAProxy)
	default:
		return findCaddy(ctx, o, progress)
	}
}

// findDetour builds the tree as `make build` does, and has the commit noted.
func findDetour(ctx context.Context, o options, dir string, progress io.Writer) (contestant, error) {
	c := contestant{name: "detour", binary: o.detour, http3: true, zstd: true, configure: configureDetour}
	if c.binary == "" {
		repo, err := repository()
		if err != nil {
			return c, err
		}
		fmt.Fprintln(progress, "building detour")
		c.binary = filepath.Join(dir, "detour")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=auto", "-ldflags", "-s -w", "-o", c.binary, "./cmd/detour")
		build.Dir = repo
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return c, fmt.Errorf("build detour: %w\n%s", err, out)
		}
	}
	out, err := exec.CommandContext(ctx, c.binary, "version").CombinedOutput()
	if err != nil {
		return c, fmt.Errorf("%s version: %w\n%s", c.binary, err, out)
	}
	c.version = strings.TrimSpace(strings.TrimPrefix(string(out), "detour "))
	return c, nil
}

// findInstalled finds a peer that comes from the distribution.
func findInstalled(ctx context.Context, command, name string, configure func(site) ([]string, error)) (contestant, error) {
	binary, err := exec.LookPath(command)
	if err != nil { // users other than root often lack sbin in PATH
		binary, err = exec.LookPath("/usr/sbin/" + command)
	}
	if err != nil {
		return contestant{}, fmt.Errorf("not installed (apt-get install --no-install-recommends %s)", command)
	}
	out, err := exec.CommandContext(ctx, binary, "-v").CombinedOutput()
	if err != nil {
		return contestant{}, fmt.Errorf("%s -v: %w", binary, err)
	}
	version := regexp.MustCompile(`\d+\.\d+\.\d+`).FindString(string(out))
	return contestant{name: name, binary: binary, version: version, configure: configure}, nil
}

// findCaddy installs the pinned Caddy when the cache does not have it yet.
func findCaddy(ctx context.Context, o options, progress io.Writer) (contestant, error) {
	c := contestant{name: "Caddy", binary: o.caddy, http3: true, zstd: true, configure: configureCaddy}
	if c.binary == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return c, err
		}
		bin := filepath.Join(cache, "detour-bench", "caddy-"+caddyVersion)
		c.binary = filepath.Join(bin, "caddy")
		if _, err := os.Stat(c.binary); err != nil {
			fmt.Fprintln(progress, "building caddy", caddyVersion, "(once, some minutes)")
			install := exec.CommandContext(ctx, "go", "install", "-trimpath", "-ldflags", "-s -w", "github.com/caddyserver/caddy/v2/cmd/caddy@"+caddyVersion)
			install.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+bin)
			if out, err := install.CombinedOutput(); err != nil {
				return c, fmt.Errorf("go install caddy: %w\n%s", err, out)
			}
		}
	}
	info, err := buildinfo.ReadFile(c.binary) // `caddy version` of a plain build says "unknown"
	if err != nil {
		return c, err
	}
	c.version = fmt.Sprintf("%s (%s)", strings.TrimPrefix(info.Main.Version, "v"), info.GoVersion)
	return c, nil
}

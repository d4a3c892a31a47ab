package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"detour/config"
	"detour/control"

	"github.com/spf13/cobra"
)

// flipCommand is `detour online` and `detour offline`.
func (p *program) flipCommand(online bool) *cobra.Command {
	name, does := "offline", "Send hosts' visitors to the status page"
	if online {
		name, does = "online", "Serve hosts from their upstreams again"
	}
	return &cobra.Command{
		Use:   name + " HOST…",
		Short: does,
		Long: does + `, and nobody else's: every other host, its
WebSockets and downloads go on undisturbed.

HOST is a name as in [hosts], a full name or an alias. Only the host's online
value changes in the configuration, every other byte stays; then the running
gateway reads it, and the command returns when the new state serves. Without a
running gateway the file is changed and says so at the next start.`,
		Example: fmt.Sprintf("  detour %s blog\n  detour %[1]s blog shop.example.org", name),
		Args:    cobra.MinimumNArgs(1),
		ValidArgsFunction: func(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
			return p.flippable(given, online), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, hosts []string) error {
			path, err := p.configPath()
			if err != nil {
				return err
			}
			return p.flip(cmd.Context(), path, hosts, online)
		},
	}
}

// flip sets the flag of hosts in the file at path and has the gateway follow.
func (p *program) flip(ctx context.Context, path string, hosts []string, online bool) error {
	cfg, data, err := parse(path)
	if err != nil {
		return err
	}
	if _, _, err := config.SetOnline(path, data, hosts, online); err != nil {
		return usageError(err, "") // no such host: before anybody is asked
	}
	// Asked first, so that somebody who may not talk to the gateway is told
	// before the file says one thing and the gateway does another.
	gw := control.NewClient(cfg.Control.Socket)
	before, err := gw.Status(ctx)
	absent := errors.Is(err, control.ErrNotRunning)
	if err != nil && !absent {
		return err
	}
	changes, err := config.SetOnlineFile(path, hosts, online)
	if err != nil {
		return err
	}
	switch {
	case absent:
		p.printFileOnly(path, changes, "no gateway is running")
		return nil
	case !sameFile(path, before.Config):
		p.printFileOnly(path, changes, "the running gateway uses "+before.Config)
		return nil
	case settled(changes, before):
		for _, c := range changes {
			fmt.Fprintf(p.stdout, "%s was %s already: %s\n", c.Host, state(c.To), visitors(before, c))
		}
		return nil
	}
	return p.follow(ctx, gw, path, changes)
}

// follow has the gateway take over the changed file and says what it serves
// then.
func (p *program) follow(ctx context.Context, gw *control.Client, path string, changes []config.Change) error {
	began := time.Now()
	report, err := gw.Reload(ctx, control.ReloadOptions{})
	if err != nil {
		return fmt.Errorf("%s is changed, but the gateway has not followed: %w", path, err)
	}
	if report.Refused() {
		return p.refused(report)
	}
	took := milliseconds(time.Since(began))
	after, err := gw.Status(ctx)
	if err != nil {
		return err
	}
	for _, c := range changes {
		fmt.Fprintf(p.stdout, "%s is %s: %s (generation %d, %s)\n", c.Host, state(c.To), visitors(after, c), report.Generation, took)
	}
	p.warnRestart(report)
	return nil
}

// printFileOnly says that the flags stand in the file and nowhere else yet.
func (p *program) printFileOnly(path string, changes []config.Change, why string) {
	for _, c := range changes {
		was := "now"
		if c.From == c.To {
			was = "already"
		}
		fmt.Fprintf(p.stdout, "%s is %s %s in %s; %s, so it takes effect when one starts with this file\n", c.Host, was, state(c.To), path, printable(why))
	}
}

// settled reports whether neither the file nor the gateway has to change.
func settled(changes []config.Change, running control.Status) bool {
	for _, c := range changes {
		served := slices.ContainsFunc(running.Hosts, func(h control.Host) bool {
			return h.Host == c.Host && h.State == state(c.To)
		})
		if c.From != c.To || !served {
			return false
		}
	}
	return true
}

// visitors says where the visitors of a flipped host end up.
func visitors(st control.Status, c config.Change) string {
	i := slices.IndexFunc(st.Hosts, func(h control.Host) bool { return h.Host == c.Host })
	switch {
	case i < 0 || st.Hosts[i].State != state(c.To):
		return "but somebody has changed that again"
	case c.To:
		return "visitors reach " + printable(st.Hosts[i].Upstream)
	}
	page := strings.NewReplacer("{uri}", "", "{host}", c.Host).Replace(st.Hosts[i].StatusPage)
	return "visitors go to " + printable(page)
}

// flippable are the hosts that completion offers: those not yet as wanted and
// not named yet.
func (p *program) flippable(given []string, online bool) []string {
	path, err := p.configPath()
	if err != nil {
		return nil
	}
	cfg, _, err := parse(path)
	if err != nil {
		return nil
	}
	var names []string
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		if h.Online != online && !slices.Contains(given, h.Key) {
			names = append(names, h.Key+"\t"+h.Name)
		}
	}
	return names
}

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"detour/config"

	"github.com/spf13/cobra"
)

func (p *program) onlineCommand() *cobra.Command {
	all, asJSON := false, false
	cmd := &cobra.Command{
		Use:   "online HOST…",
		Short: "Serve hosts from their upstreams again",
		Long: `Serve hosts from their upstreams again. Whatever an operator took them offline
with ends for these hosts, and no others: the flag, a maintenance window in
force, or offline --all. Later windows stay.

HOST is a name as in [hosts], a full name or an alias. With --all an earlier
offline --all ends, and exactly what was online before it is online again.

In the file only these settings change, every other byte stays; then the running
gateway reads it, and the command returns when the new state is in force. A host
whose upstream is unhealthy may stay offline (auto_offline): then the exit
status is 1.`,
		Example:           "  detour online blog\n  detour online blog shop.example.org\n  detour online --all",
		ValidArgsFunction: p.completeHosts(true),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			if err := hostsOrAll(hosts, all); err != nil {
				return usageError(err, "detour online --help")
			}
			path, err := p.configPath()
			if err != nil {
				return err
			}
			if all {
				return p.flipAll(cmd.Context(), path, nil, &outage{asJSON: asJSON})
			}
			return p.online(cmd.Context(), path, hosts, asJSON)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "end an earlier offline --all")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

// hostsOrAll wants either hosts or --all.
func hostsOrAll(hosts []string, all bool) error {
	switch {
	case all && len(hosts) > 0:
		return errors.New("--all is for every host, so none is named")
	case !all && len(hosts) == 0:
		return errors.New("no host is given; --all is for every host")
	}
	return nil
}

// online brings hosts online, whatever an operator took them offline with.
func (p *program) online(ctx context.Context, path string, hosts []string, asJSON bool) error {
	cfg, data, err := parse(path)
	if err != nil {
		return err
	}
	f := &flip{path: path, clock: clockOf(path), asJSON: asJSON}
	if _, _, err := config.BringOnline(path, data, hosts, f.clock.now); err != nil {
		return refusedEdit(err) // no such host: before anybody is asked
	}
	if f.gateway, err = meet(ctx, path, cfg); err != nil {
		return err
	}
	changes, err := config.BringOnlineFile(path, hosts, f.clock.now)
	if err != nil {
		return err
	}
	for _, c := range changes {
		f.options.Online = append(f.options.Online, c.Host)
		host := flipped{host: c.Host, want: "online", pending: "is now online", note: brought(c, f.clock)}
		if host.changed = c.From != c.To || c.Excepted || c.Over || len(c.Ended) > 0; !host.changed {
			host.pending = "is already online"
		}
		f.hosts = append(f.hosts, host)
	}
	return p.follow(ctx, f)
}

// brought says what ended for a host, unless it was the flag alone.
func brought(c config.Change, clock clock) string {
	var what []string
	if c.From != c.To {
		what = append(what, "its flag is set")
	}
	for _, m := range c.Ended {
		when := "until " + clock.show(m.Until)
		if m.Cron != "" {
			when = fmt.Sprintf("of cron %q", m.Cron)
		}
		what = append(what, "its maintenance "+when+" ended early")
	}
	if c.Excepted {
		what = append(what, "it is an exception from offline --all")
	}
	if len(what) == 0 || len(what) == 1 && c.From != c.To {
		return ""
	}
	return ", " + strings.Join(what, " and ")
}

// flipAll takes all hosts offline except some, or, with o.all false, ends that.
func (p *program) flipAll(ctx context.Context, path string, except []string, o *outage) error {
	cfg, data, err := parse(path)
	if err != nil {
		return err
	}
	edited, err := config.SetAll(path, data, o.all, except)
	if err != nil {
		return refusedEdit(err)
	}
	after, err := config.Parse(path, edited)
	if err != nil {
		return err
	}
	f := &flip{path: path, clock: clockOf(path), all: state(!o.all), wait: o.wait, asJSON: o.asJSON}
	if f.gateway, err = meet(ctx, path, cfg); err != nil {
		return err
	}
	if err := config.SetAllFile(path, o.all, except); err != nil {
		return err
	}
	changed := string(edited) != string(data)
	for i := range after.Hosts {
		h := &after.Hosts[i]
		host := flipped{host: h.Name, want: "online", pending: "is online", changed: changed}
		if !after.WantsOnline(h) {
			host.want, host.pending = "offline", "is offline"
			f.drain(o, h, cfg)
		}
		f.hosts = append(f.hosts, host)
	}
	p.warnSignless(f, o, cfg)
	return p.follow(ctx, f)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"detour/config"

	"github.com/spf13/cobra"
)

// outage is what `detour offline` was asked for, apart from the hosts.
type outage struct {
	length, drain duration
	from, until   string
	reason        string
	all           bool
	except        []string
	wait, asJSON  bool
}

func (p *program) offlineCommand() *cobra.Command {
	var o outage
	cmd := &cobra.Command{
		Use:   "offline HOST…",
		Short: "Send hosts' visitors to the status page",
		Long: `Send hosts' visitors to the status page. Other hosts, their WebSockets and
downloads are not disturbed.

HOST is a name as in [hosts], a full name or an alias. Without a time, its online
value in the configuration becomes false, until detour online. With --for,
--until or --from a [[maintenance]] entry is written instead: it begins and ends
by itself, visitors are told the end, and it replaces whatever keeps the host
offline now. Given again while it lasts, the command moves the end, and a drain
that is under way goes on. detour online ends it early.

TIME is "22:00", the next such time, or "2026-11-30 22:00", both in the file's
time_zone, or RFC 3339. DURATION is for example 90s, 10m, 2h, 3d or 2w.

With --drain new visitors go to the status page at once, and running sessions,
recognized by the host's session settings, are served until the time is up or
none has been heard of for a minute. With --from the drain comes before it;
otherwise it begins now, and --for counts from now, too. Without --drain the
host's own drain counts. --drain 0s ends a drain at once, and closes what is
still open on a host that is offline.

Every other byte of the file stays; then the running gateway reads it, and the
command returns when the new state is in force. Without a running gateway the
file is changed, and takes effect at the next start.`,
		Example: `  detour offline blog
  detour offline blog shop.example.org
  detour offline shop --drain 10m --wait
  detour offline shop --for 2h --reason "database upgrade"
  detour offline shop --from 22:00 --until 23:30 --drain 10m
  detour offline --all --except status,mail`,
		ValidArgsFunction: p.completeHosts(false),
		RunE: func(cmd *cobra.Command, hosts []string) error {
			if err := o.check(hosts); err != nil {
				return usageError(err, "detour offline --help")
			}
			path, err := p.configPath()
			if err != nil {
				return err
			}
			switch {
			case o.all:
				var except []string // nil keeps those of the file
				if cmd.Flags().Changed("except") {
					except = append([]string{}, o.except...)
				}
				return p.flipAll(cmd.Context(), path, except, &o)
			case o.timed():
				return p.plan(cmd.Context(), path, hosts, &o)
			}
			return p.offline(cmd.Context(), path, hosts, &o)
		},
	}
	flags := cmd.Flags()
	flags.Var(&o.length, "for", "come back after `DURATION`")
	flags.StringVar(&o.from, "from", "", "begin at `TIME`")
	flags.StringVar(&o.until, "until", "", "come back at `TIME`")
	flags.StringVar(&o.reason, "reason", "", "`TEXT` for visitors, the log and detour status; needs a time")
	flags.Var(&o.drain, "drain", "serve running sessions for `DURATION` more; 0s = not at all")
	flags.BoolVar(&o.all, "all", false, "every host")
	flags.StringSliceVar(&o.except, "except", nil, "with --all: except these `HOSTS`; if not given, those in the file stay; --except= clears them")
	flags.BoolVar(&o.wait, "wait", false, "wait until nothing is in flight any more; Ctrl-C ends only the waiting")
	flags.BoolVar(&o.asJSON, "json", false, "print JSON for programs")
	// Its only error is a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("except", p.completeHosts(false))
	return cmd
}

func (o *outage) timed() bool { return o.length.given || o.from != "" || o.until != "" }

// check reports contradictions in the call.
func (o *outage) check(hosts []string) error {
	if err := hostsOrAll(hosts, o.all); err != nil {
		return err
	}
	switch {
	case len(o.except) > 0 && !o.all:
		return errors.New("--except is for --all")
	case o.all && o.timed():
		return errors.New(`--all has no time; name the hosts, or plan it in the file: hosts = ["*"] in [[maintenance]]`)
	case o.reason != "" && !o.timed():
		return errors.New("--reason needs a time: --for or --until")
	case o.length.given && o.until != "":
		return errors.New("--for and --until both say the end; give one")
	case o.length.given && o.length.Duration <= 0:
		return errors.New("--for must be longer than nothing")
	case o.drain.Duration > config.MaxDrain:
		return fmt.Errorf("--drain must be at most %s", span(config.MaxDrain))
	case o.from != "" && !o.length.given && o.until == "":
		return errors.New("--from needs an end: --for or --until")
	}
	return nil
}

// offline switches the flag of hosts off.
func (p *program) offline(ctx context.Context, path string, hosts []string, o *outage) error {
	cfg, data, err := parse(path)
	if err != nil {
		return err
	}
	if _, _, err := config.SetOnline(path, data, hosts, false); err != nil {
		return refusedEdit(err) // no such host: before anybody is asked
	}
	f := &flip{path: path, clock: clockOf(path), wait: o.wait, asJSON: o.asJSON}
	if f.gateway, err = meet(ctx, path, cfg); err != nil {
		return err
	}
	changes, err := config.SetOnlineFile(path, hosts, false)
	if err != nil {
		return err
	}
	for _, c := range changes {
		host := flipped{host: c.Host, want: "offline", changed: c.From != c.To, pending: "is now offline"}
		if !host.changed {
			host.pending = "is already offline"
		}
		f.hosts = append(f.hosts, host)
		f.drain(o, entry(cfg, c.Host), cfg)
	}
	p.warnSignless(f, o, cfg)
	return p.follow(ctx, f)
}

// drain passes the call's drain on for a host that is not offline yet. One of no
// length ends what is open on a host that is.
func (f *flip) drain(o *outage, h *config.Host, cfg *config.Config) {
	switch {
	case !o.drain.given:
	case f.gateway.stateOf(h, cfg) != "offline":
		if f.options.Drain == nil {
			f.options.Drain = make(map[string]time.Duration)
		}
		f.options.Drain[h.Name] = o.drain.Duration
	case o.drain.Duration == 0:
		f.options.End = append(f.options.End, h.Name)
	}
}

// warnSignless warns of hosts whose drain lets nobody through.
func (p *program) warnSignless(f *flip, o *outage, cfg *config.Config) {
	for _, c := range f.hosts {
		h := entry(cfg, c.host)
		length, state := h.Drain, f.gateway.stateOf(h, cfg)
		if o.drain.given {
			length = o.drain.Duration
		}
		begins := c.want != "online" && (state == "online" || state == "draining" && o.drain.given)
		if begins && length > 0 && len(h.Session.Cookies)+len(h.Session.Paths)+len(h.Session.Queries) == 0 {
			p.warn("%s has no session signs: nobody is let through, and its streams are ended at the end of the drain", h.Name)
		}
	}
}

// entry returns the host with a canonical name, which must be there.
func entry(cfg *config.Config, name string) *config.Host {
	return &cfg.Hosts[slices.IndexFunc(cfg.Hosts, func(h config.Host) bool { return h.Name == name })]
}

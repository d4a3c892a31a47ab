package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"detour/control"
	"detour/gateway"

	"github.com/spf13/cobra"
)

func (p *program) bypassCommand() *cobra.Command {
	length := duration{Duration: time.Hour}
	asJSON := false
	cmd := &cobra.Command{
		Use:   "bypass HOST",
		Short: "Make a link that lets you reach an offline host",
		Long: `Make a link that lets one browser reach an offline host, to test it before it
comes back. Opening the link sets a cookie and leads to the host's own address.
It works once, for this name, until its time is up or the host is online again.
HOST is a name as in [hosts], a full name, an alias, or a name below a wildcard.
Whoever opens it first is let in, so treat it like a password.

To let a whole network in instead, use [bypass] networks in the configuration.`,
		Example: `  detour bypass shop
  detour bypass shop --for 15m
  xdg-open "$(detour bypass shop)"`,
		Args: oneArgument("host"),
		ValidArgsFunction: func(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
			if len(given) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return p.completeHosts(true)(cmd, given, begun)
		},
	}
	cmd.RunE = p.asking(func(ctx context.Context, path string, gw *control.Client, hosts []string) error {
		if length.Duration <= 0 || length.Duration > gateway.LongestBypass {
			return usageError(fmt.Errorf("--for must be longer than nothing and at most %dd", gateway.LongestBypass/(24*time.Hour)), "detour bypass --help")
		}
		name, err := nameFor(ctx, path, gw, hosts[0])
		if err != nil {
			return err
		}
		until := time.Now().Add(length.Duration)
		link, err := gw.Bypass(ctx, name, length.Duration)
		switch {
		case err != nil:
			return err
		case asJSON:
			return p.printJSON(bypassLink{name, link, until.Truncate(time.Second)})
		}
		fmt.Fprintln(p.stdout, printable(link))
		fmt.Fprintf(p.stderr, "Open it once: that browser then reaches %s until %s.\n", printable(name), clockOf(path).show(until))
		return nil
	})
	cmd.Flags().Var(&length, "for", "let it work for `DURATION`, at most 7d (default 1h)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

// nameFor is the full name that the link is for. An alias stays one, because a
// cookie is only of use for the name that set it.
func nameFor(ctx context.Context, path string, gw *control.Client, named string) (string, error) {
	st, err := gw.Status(ctx)
	if err != nil {
		return "", err
	}
	name := fullName(path, named)
	_, zone, _ := strings.Cut(name, ".")
	switch h := hostNamed(st, named, name); {
	case h != nil && h.Key == named:
		return h.Host, nil
	case h == nil && hostNamed(st, "", "*."+zone) == nil:
		return "", noSuchHost(named)
	}
	return name, nil
}

// bypassLink is what bypass prints with --json.
type bypassLink struct {
	Host  string    `json:"host"`
	Link  string    `json:"link"`
	Until time.Time `json:"until"`
}

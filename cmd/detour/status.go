package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"detour/config"
	"detour/control"

	"github.com/spf13/cobra"
)

func (p *program) statusCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the state of the running gateway and its hosts",
		Long: `Show the state of the running gateway and its hosts: state and why, upstreams,
certificate, requests in flight, last error; below, a line about each host that
is offline or going to be. WHY is the flag, all (detour offline --all), a
maintenance window, a window that overran because the upstream has not answered
since, or the health of the upstream. Without a running gateway it shows what
the configuration says, and the exit status is 1.`,
		Example: "  detour status\n  detour status --json | jq -r '.hosts[] | select(.state == \"offline\").host'",
		Args:    noArguments,
		RunE: p.asking(func(ctx context.Context, path string, gw *control.Client, _ []string) error {
			st, err := gw.Status(ctx)
			switch {
			case errors.Is(err, control.ErrNotRunning) && !asJSON:
				return p.statusOfFile(path, err)
			case err != nil:
				return err
			case asJSON:
				return p.printJSON(st)
			}
			if !sameFile(path, st.Config) {
				p.warn("the running gateway uses %s, not %s", st.Config, path)
			}
			writeStatus(p.stdout, st, clockOf(path))
			return nil
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

// statusOfFile shows what will be served once a gateway runs; notRunning says
// that none does.
func (p *program) statusOfFile(path string, notRunning error) error {
	cfg, data, err := parse(path)
	if err != nil {
		return err
	}
	c := clock{time.Now(), cfg.TimeZone}
	var keys []string
	for i := range cfg.Hosts {
		keys = append(keys, cfg.Hosts[i].Key)
	}
	inForce := make([]config.Change, len(keys))
	if _, found, err := config.BringOnline(path, data, keys, c.now); err == nil { // nothing is, it names the windows
		inForce = found
	}
	t := newTable(p.stdout, "HOST", "IN THE FILE", "UPSTREAM")
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		var upstreams []string
		for _, u := range h.Upstreams {
			upstreams = append(upstreams, u.String())
		}
		for _, u := range h.Standby {
			upstreams = append(upstreams, u.String()+" (standby)")
		}
		says := state(cfg.WantsOnline(h))
		for _, m := range inForce[i].Ended {
			says += ", in a maintenance"
			if m.Cron == "" {
				says += " until " + c.show(m.Until)
			}
		}
		t.row(h.Name, says, strings.Join(upstreams, ", "))
	}
	t.end()
	return notRunning
}

// writeStatus is `detour status`: a line about the gateway, a table of its
// hosts, a sentence about each that is offline or going to be, and what needs the
// operator's attention.
func writeStatus(w io.Writer, st control.Status, c clock) {
	now := c.now
	fmt.Fprintf(w, "detour %s, up %s, generation %d since %s ago, %s\n\n", printable(st.Version),
		span(now.Sub(st.Started)), st.Generation, span(now.Sub(st.Reloaded)), printable(st.Config))
	t := newTable(w, "HOST", "STATE", "WHY", "UPSTREAM", "CERTIFICATE", "IN FLIGHT", "LAST ERROR")
	for _, h := range st.Hosts {
		t.row(h.Host, standing(&h, c), why(&h), upstreams(&h), certificate(h.Certificate, now), inFlight(&h), lastError(h, now))
	}
	t.end()
	for _, line := range slices.Concat(detours(st, c), attention(st, now)) {
		fmt.Fprintln(w, printable(line))
	}
}

// why is a host's cause in the table.
func why(h *control.Host) string {
	switch {
	case h.Cause != "":
		return h.Cause
	case h.Health == "unhealthy":
		return "upstream unhealthy"
	}
	return "-"
}

// upstreams lists a host's upstreams, and which are standby or unhealthy.
func upstreams(h *control.Host) string {
	if len(h.Upstreams) < 2 {
		return h.Upstream
	}
	var list []string
	for _, u := range h.Upstreams {
		var marks []string
		if u.Standby {
			marks = append(marks, "standby")
		}
		if u.Health == "unhealthy" {
			marks = append(marks, u.Health)
		}
		if len(marks) > 0 {
			u.Address += " (" + strings.Join(marks, ", ") + ")"
		}
		list = append(list, u.Address)
	}
	return strings.Join(list, ", ")
}

// detours are the hosts that are offline or going to be, a line each, with an
// empty one before the first.
func detours(st control.Status, c clock) []string {
	var lines []string
	for i := range st.Hosts {
		h := &st.Hosts[i]
		if h.State != "online" {
			lines = append(lines, sentence(h, c))
		}
		if plan := planned(h, c); plan != "" {
			lines = append(lines, plan)
		}
	}
	if len(lines) > 0 {
		lines = append([]string{""}, lines...)
	}
	return lines
}

// inFlight is how many requests a host is busy with.
func inFlight(h *control.Host) string {
	s := strconv.FormatInt(h.InFlight, 10)
	if h.Bypassed > 0 {
		s += fmt.Sprintf(" + %d bypassed", h.Bypassed)
	}
	return s
}

// certificate is a certificate's state in a few words.
func certificate(c *control.Certificate, now time.Time) string {
	if c == nil {
		return "none"
	}
	left := ""
	if !c.NotAfter.IsZero() {
		left = span(c.NotAfter.Sub(now)) + " left"
		if c.NotAfter.Before(now) {
			left = "expired " + span(now.Sub(c.NotAfter)) + " ago"
		}
	}
	switch c.State {
	case "valid":
		return left
	case "expired":
		return cmp.Or(left, "expired")
	case "pending":
		return "being ordered"
	case "failing":
		return c.State // what is left is left of the local one, which is renewed
	}
	return strings.TrimSuffix(c.State+", "+left, ", ")
}

func lastError(h control.Host, now time.Time) string {
	if h.LastError == "" {
		return "-"
	}
	return span(now.Sub(h.LastErrorAt)) + " ago: " + h.LastError
}

// attention is what an operator should act on, a line each, with an empty one
// before the first.
func attention(st control.Status, now time.Time) []string {
	var lines []string
	for _, c := range certificatesOf(st) {
		if c.Error != "" {
			lines = append(lines, fmt.Sprintf("certificate of %s: %s%s", strings.Join(c.Names, ", "), c.Error, nextTry(&c, now)))
		}
	}
	if len(st.Restart) > 0 {
		lines = append(lines, "changed in the file, but only a restart makes it so: "+strings.Join(st.Restart, ", "))
	}
	if st.Logs.Error != "" {
		lines = append(lines, fmt.Sprintf("access logs in %s: %s", st.Logs.Dir, st.Logs.Error))
	}
	if st.Logs.Dropped > 0 {
		lines = append(lines, fmt.Sprintf("access logs in %s: %s lost", st.Logs.Dir, count(int(st.Logs.Dropped), "line")))
	}
	if len(st.Problems) > 0 {
		lines = append(lines, fmt.Sprintf("the last reload was refused, generation %d stays in force:", st.Generation))
		for _, problem := range st.Problems {
			lines = append(lines, "  "+problem)
		}
	}
	if len(lines) > 0 {
		lines = append([]string{""}, lines...)
	}
	return lines
}

func nextTry(c *control.Certificate, now time.Time) string {
	if c.NextTry.IsZero() || c.NextTry.Before(now) {
		return ""
	}
	return "; next try in " + span(c.NextTry.Sub(now))
}

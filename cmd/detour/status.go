package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"detour/control"

	"github.com/spf13/cobra"
)

func (p *program) statusCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say how the running gateway and its hosts are",
		Long: `Say how the running gateway and its hosts are: state, upstream, certificate,
requests in flight, last error. Without a running gateway it shows what the
configuration says, and the exit status is 1.`,
		Example: "  detour status\n  detour status --json | jq -r '.hosts[] | select(.state == \"offline\").host'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := p.configPath()
			if err != nil {
				return err
			}
			gw, err := client(path)
			if err != nil {
				return err
			}
			st, err := gw.Status(cmd.Context())
			switch {
			case errors.Is(err, control.ErrNotRunning) && !asJSON:
				return p.statusOfFile(path, err)
			case err != nil:
				return err
			case asJSON:
				return p.printJSON(st)
			}
			if !sameFile(path, st.Config) {
				fmt.Fprintf(p.stderr, "Warning: the running gateway uses %s, not %s\n", printable(st.Config), path)
			}
			writeStatus(p.stdout, st, time.Now())
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

func (p *program) printJSON(v any) error {
	encoder := json.NewEncoder(p.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

// statusOfFile shows what will be served once a gateway runs; notRunning says
// that none does.
func (p *program) statusOfFile(path string, notRunning error) error {
	cfg, _, err := parse(path)
	if err != nil {
		return err
	}
	t := newTable(p.stdout, "HOST", "IN THE FILE", "UPSTREAM")
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		t.row(h.Name, state(h.Online), h.Upstream.Address)
	}
	t.end()
	return notRunning
}

func state(online bool) string {
	if online {
		return "online"
	}
	return "offline"
}

// writeStatus is `detour status`: a line about the gateway, a table of its
// hosts, and what needs the operator's attention.
func writeStatus(w io.Writer, st control.Status, now time.Time) {
	fmt.Fprintf(w, "detour %s, up %s, generation %d since %s ago, %s\n\n", printable(st.Version),
		span(now.Sub(st.Started)), st.Generation, span(now.Sub(st.Reloaded)), printable(st.Config))
	t := newTable(w, "HOST", "STATE", "UPSTREAM", "CERTIFICATE", "IN FLIGHT", "LAST ERROR")
	for _, h := range st.Hosts {
		t.row(h.Host, h.State, h.Upstream, certificate(h.Certificate, now), strconv.FormatInt(h.InFlight, 10), lastError(h, now))
	}
	t.end()
	for _, line := range attention(st, now) {
		fmt.Fprintln(w, printable(line))
	}
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
	seen := map[*control.Certificate]bool{nil: true}
	for _, h := range st.Hosts {
		if c := h.Certificate; !seen[c] && c.Error != "" {
			lines = append(lines, fmt.Sprintf("certificate of %s: %s%s", strings.Join(c.Names, ", "), c.Error, nextTry(c, now)))
			seen[c] = true
		}
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

// table prints columns; its cells may hold texts of strangers.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer, heads ...string) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
	t.row(heads...)
	return t
}

func (t table) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			io.WriteString(t.w, "\t")
		}
		io.WriteString(t.w, printable(cell))
	}
	io.WriteString(t.w, "\n")
}

func (t table) end() { t.w.Flush() }

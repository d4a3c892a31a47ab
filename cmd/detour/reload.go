package main

import (
	"context"
	"fmt"
	"strings"

	"detour/control"

	"github.com/spf13/cobra"
)

func (p *program) reloadCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the running gateway read its configuration again",
		Long: `Make the running gateway read its configuration again, wait until the new state
is in force, and say what changed. A configuration with mistakes is refused: the
old one stays in force, the mistakes are printed and the exit status is 1.`,
		Example: "  detour reload",
		Args:    noArguments,
		RunE: p.asking(func(ctx context.Context, _ string, gw *control.Client, _ []string) error {
			return p.reload(ctx, gw, asJSON)
		}),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

func (p *program) reload(ctx context.Context, gw *control.Client, asJSON bool) error {
	report, err := gw.Reload(ctx, control.ReloadOptions{})
	if err != nil {
		return err
	}
	if asJSON {
		if err := p.printJSON(report); err != nil {
			return err
		}
	}
	if report.Refused() {
		return p.refused(report)
	}
	if asJSON {
		return nil
	}
	lines := summary(report)
	switch {
	case report.Unchanged:
		lines = []string{"nothing changed, the log files were opened again"}
	case len(lines) == 0:
		lines = []string{"settings of the whole gateway changed"}
	}
	fmt.Fprintf(p.stdout, "generation %d: %s\n", report.Generation, strings.Join(lines, "; "))
	p.warnRestart(report)
	return nil
}

// refused prints why a reload was refused and returns the command's error.
func (p *program) refused(report control.Report) *operatorError {
	for _, problem := range report.Problems {
		p.complain("%s", problem)
	}
	return &operatorError{
		err:    fmt.Errorf("the reload was refused, generation %d stays in force", report.Generation),
		try:    "detour check, correct the file, then detour reload",
		status: exitFailed,
	}
}

func (p *program) warnRestart(report control.Report) {
	if len(report.Restart) > 0 {
		p.warn("changed, but only a restart makes it so: %s", strings.Join(report.Restart, ", "))
	}
}

// summary is what changed, a phrase each.
func summary(report control.Report) []string {
	var lines []string
	for _, part := range []struct {
		what  string
		hosts []string
	}{
		{"added", report.Added},
		{"removed", report.Removed},
		{"changed", report.Changed},
		{"online", report.Online},
		{"offline", report.Offline},
	} {
		if len(part.hosts) > 0 {
			lines = append(lines, part.what+" "+printable(strings.Join(part.hosts, ", ")))
		}
	}
	return lines
}

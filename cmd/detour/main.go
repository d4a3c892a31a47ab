// Command detour runs the edge gateway and is how an operator controls it: it
// checks the configuration, takes hosts offline and brings them back, and shows
// the state of a running gateway.
//
// Each command is in the file of its name. What several share: talk.go finds the
// gateway and its hosts, failure.go the remedy for an error; flip.go takes an edit
// of the file to the gateway, with plan.go for windows and wait.go for --wait;
// condition.go, human.go and clock.go put states, numbers and times into words.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program; main only lends it the operating system. The end
// of ctx stops it as SIGTERM does. It returns the exit status.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdout: stdout, stderr: stderr, journal: isJournal(stderr)}
	root := p.rootCommand()
	refuseUnknown(root)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)

	// cobra calls this when it has accepted flags and arguments. An error before
	// is a mistake in how the program was called.
	accepted := false
	root.PersistentPreRun = func(*cobra.Command, []string) { accepted = true }
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if !accepted {
		err = usageError(oneLine(err), cmd.CommandPath()+" --help")
	}
	return p.fail(err)
}

// oneLine joins cobra's suggestions, which it puts on lines of their own.
func oneLine(err error) error {
	return errors.New(strings.ReplaceAll(strings.Join(strings.Fields(err.Error()), " "), " Did you mean", "; did you mean"))
}

// program is what the commands share.
type program struct {
	stdout, stderr io.Writer
	journal        bool   // stderr is systemd's journal, which takes a line's priority from its beginning
	configFlag     string // -c as given; "" = look in the usual places
}

func (p *program) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "detour",
		Short: "The edge gateway: certificates, HTTP/1.1, 2 and 3, and a switch for each host",
		Long: `detour is the edge gateway of a home or a small business. It gets certificates,
serves HTTP/1.1, 2 and 3, forwards each host to its upstream, and has a switch
for each host: offline sends its visitors to the status page, at once, while
every other host goes on undisturbed.

Everything is in one file: ./proxy.toml, else /etc/detour/proxy.toml, or -c FILE.

Exit status: 0 done; 1 failed or refused; 2 a mistake in the call or in the
configuration.`,
		Example: `  detour demo                 see it work, on this machine alone
  detour check                look for mistakes in proxy.toml
  detour run                  serve
  detour offline blog         send the blog's visitors to the status page
  detour online blog          and bring it back
  detour bypass blog          see it while it is offline`,
		Version:       versionText(),
		SilenceErrors: true, // run prints them, with what to do next
		SilenceUsage:  true, // an upstream that is down is not cured by a page of flags
	}
	root.Flags().Bool("version", false, "print version, commit and Go version") // cobra's own also has -v, which elsewhere means verbose
	root.PersistentFlags().StringVarP(&p.configFlag, "config", "c", "", "configuration `FILE` (default ./proxy.toml, then /etc/detour/proxy.toml)")
	root.AddCommand(
		p.runCommand(),
		p.checkCommand(),
		p.onlineCommand(),
		p.offlineCommand(),
		p.statusCommand(),
		p.bypassCommand(),
		p.explainCommand(),
		p.reloadCommand(),
		p.certsCommand(),
		p.demoCommand(),
		p.versionCommand(),
	)
	root.AddCommand(p.packagingCommands()...)
	return root
}

// noArguments is for commands that take none. A file given to one is most likely
// meant as the configuration.
func noArguments(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return nil
	case strings.HasSuffix(args[0], ".toml"):
		return fmt.Errorf("unexpected argument %q; a configuration is named with -c", args[0])
	}
	return fmt.Errorf("unexpected argument %q", args[0])
}

// oneArgument is for commands about one thing.
func oneArgument(thing string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch len(args) {
		case 0:
			return fmt.Errorf("no %s is given", thing)
		case 1:
			return nil
		}
		return fmt.Errorf("one %s at a time, not %d", thing, len(args))
	}
}

// refuseUnknown makes cobra's own commands fail for commands that do not exist,
// where they would print help and succeed.
func refuseUnknown(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Args = func(_ *cobra.Command, args []string) error {
				found, rest, err := root.Find(args)
				if err == nil && len(rest) > 0 {
					err = fmt.Errorf("unknown command %q for %q", rest[0], found.CommandPath())
				}
				return err
			}
		case "completion":
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() } // cobra looks at the arguments of what runs
		}
	}
}

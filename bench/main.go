//go:build linux

// Command bench measures detour side by side with nginx, HAProxy and Caddy:
// the CPU time each spends on a request, what it holds in memory, how it
// starts. docs/performance.md says why these figures, and carries the table
// that -out writes.
//
// One process is the clients, the backend and the clock, on one CPU; the proxy
// under measurement has another CPU for itself. Every figure comes from a proxy
// started afresh, and the contestants take turns round by round, so that what
// disturbs the machine disturbs all of them.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	short    bool
	rounds   int
	duration time.Duration
	only     *regexp.Regexp // scenarios by name
	peers    []string       // of knownPeers
	out      string
	detour   string // a built binary; "" = build the tree
	caddy    string // a built binary; "" = install the pinned version
	keep     bool
	profile  string // take a profile and write it here, instead of measuring
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	var only, peers string
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.BoolVar(&o.short, "short", false, "the main scenarios only, three short rounds: under two minutes")
	fs.IntVar(&o.rounds, "rounds", 0, "`rounds` of which the median is taken (default 5, with -short 3)")
	fs.DurationVar(&o.duration, "time", 0, "how long a scenario is measured in a round (default 2s, with -short 400ms)")
	fs.StringVar(&only, "run", "", "only scenarios whose name matches `regexp`, for example '^(a|b)$'")
	fs.StringVar(&peers, "peers", strings.Join(knownPeers, ","), "whom to measure besides detour")
	fs.StringVar(&o.out, "out", "", "also replace the table between the markers in `file`")
	fs.StringVar(&o.detour, "detour", "", "measure this `binary` instead of building the tree")
	fs.StringVar(&o.caddy, "caddy", "", "measure this `binary` instead of installing "+caddyVersion)
	fs.StringVar(&o.profile, "profile", "", "measure nothing; write a CPU profile of detour under the main scenarios, or those of -run, to `file`")
	fs.BoolVar(&o.keep, "keep", false, "keep the proxies' configurations and logs")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	o.peers = strings.FieldsFunc(strings.ToLower(peers), func(r rune) bool { return r == ',' || r == ' ' })
	var err error
	if o.only, err = regexp.Compile(only); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	// Three rounds give a median, five one that two disturbed rounds cannot move.
	rounds, duration := 5, 2*time.Second
	if o.short {
		rounds, duration = 3, 400*time.Millisecond
	}
	o.rounds = cmp.Or(o.rounds, rounds)
	o.duration = cmp.Or(o.duration, duration)
	switch {
	case o.rounds < 1 || o.duration < 0:
		return o, errors.New("-rounds and -time must be positive")
	case len(selectScenarios(o)) == 0:
		return o, fmt.Errorf("-run: no scenario matches %q", only)
	}
	for _, binary := range []*string{&o.detour, &o.caddy} { // they are started in other directories
		if *binary == "" {
			continue
		}
		if *binary, err = filepath.Abs(*binary); err != nil {
			return o, err
		}
	}
	for _, peer := range o.peers {
		if !slices.Contains(knownPeers, peer) {
			return o, fmt.Errorf("-peers: %q is not one of %s", peer, strings.Join(knownPeers, ", "))
		}
	}
	return o, nil
}

// run is the whole program; it returns the exit status: 0 done, 1 something
// failed, 2 a mistake in the call.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if err := measureAll(ctx, o, stdout, stderr); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

func measureAll(ctx context.Context, o options, stdout, progress io.Writer) error {
	dir, err := os.MkdirTemp("", "detour-bench-")
	if err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintln(progress, "keeping", dir)
	} else {
		defer os.RemoveAll(dir)
	}

	if o.profile != "" {
		return profile(ctx, o, dir, progress)
	}
	contestants, missing, err := findContestants(ctx, o, dir, progress)
	if err != nil {
		return err
	}
	scenarios := selectScenarios(o)
	if _, err := exec.LookPath(h2load); err != nil {
		scenarios = slices.DeleteFunc(scenarios, func(s scenario) bool { return s.tool == h2load })
		missing = append(missing, h2load+" is left out: not installed (apt-get install --no-install-recommends nghttp2-client)")
		fmt.Fprintln(progress, missing[len(missing)-1])
	}

	lab, err := settle(dir, o)
	if err != nil {
		return err
	}
	defer lab.close()

	rep := newReport(contestants, scenarios, missing, o, lab.cpus)
	for round := range o.rounds {
		for _, s := range scenarios {
			fmt.Fprintf(progress, "round %d/%d  %-8s %s\n", round+1, o.rounds, s.name, s.rows[0].title)
			for i := range contestants {
				c := contestants[(i+round)%len(contestants)] // nobody always goes first
				if !s.appliesTo(c) {
					continue
				}
				figures, notes, err := lab.measure(ctx, c, s)
				if ctx.Err() != nil {
					return errors.New("interrupted")
				}
				if err != nil && !errors.Is(err, errNoCurve) {
					fmt.Fprintf(progress, "FAILED: %s, %s: %v\n", s.name, c.name, err)
				}
				rep.add(s, c, figures, notes, err)
			}
		}
	}

	if share := lab.foreignShare(); share > 0.03 { // a quiet machine stays below 1 %
		rep.notes = append(rep.notes, fmt.Sprintf("Other work took %.0f %% of the proxy's CPU: do not trust these figures.", 100*share))
	}
	text := rep.markdown()
	fmt.Fprint(stdout, text)
	if o.out != "" {
		if err := replaceTable(o.out, text); err != nil {
			return err
		}
	}
	return rep.failure()
}

// settle makes this process clients and backend, on a CPU of its own; what is
// built before can use the whole machine.
func settle(dir string, o options) (*lab, error) {
	cpus, err := splitCPUs()
	if err != nil {
		return nil, err
	}
	// Less garbage collection on its CPU leaves more of it to keep the proxy busy.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(400)
	return newLab(dir, cpus, o)
}

// repository is the tree that is built; the script bench/run goes there first.
func repository() (string, error) {
	wd, err := os.Getwd()
	if err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(wd, "go.mod"))
	if err != nil || !strings.HasPrefix(string(data), "module detour\n") {
		return "", fmt.Errorf("%s is not detour's tree: start it with bench/run", wd)
	}
	return wd, nil
}

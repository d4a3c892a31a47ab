package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"detour/config"
	"detour/control"

	"github.com/spf13/cobra"
)

// peer is the running gateway, as seen from a configuration file.
type peer struct {
	client *control.Client
	status control.Status // before the file is edited
	apart  string         // why it does not follow the file; "" = it does
}

// meet looks for the gateway of the configuration at path. It comes before the
// edit, so that somebody who may not talk to the gateway is told before file and
// gateway differ.
func meet(ctx context.Context, path string, cfg *config.Config) (*peer, error) {
	gw := &peer{client: control.NewClient(cfg.Control.Socket)}
	var err error
	gw.status, err = gw.client.Status(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		gw.apart = err.Error()
	case err != nil:
		return nil, fmt.Errorf("nothing was changed: %w", err)
	case !sameFile(path, gw.status.Config):
		gw.apart = "the running gateway uses " + gw.status.Config
	}
	return gw, nil
}

// stateOf is a host's state now; without a gateway, what the file says.
func (gw *peer) stateOf(h *config.Host, cfg *config.Config) string {
	if gw.apart == "" {
		if now := hostOf(gw.status, h.Name); now != nil {
			return now.State
		}
	}
	return state(cfg.WantsOnline(h))
}

// flip is what online and offline do: an edit of the file, which the gateway
// follows, and what to say about each host afterwards.
type flip struct {
	path    string
	clock   clock
	gateway *peer
	hosts   []flipped
	options control.ReloadOptions
	all     string // "online" or "offline": all hosts should be, only the others are told of; "" = each is told of
	wait    bool   // until the hosts are offline and nothing is in flight
	asJSON  bool
}

// flipped is one host of a flip.
type flipped struct {
	host    string // canonical name
	want    string // the state it should be in; "" = whatever it is in
	changed bool   // the file had to change
	pending string // what holds once a gateway reads the file: "is now offline"
	note    string // what else was done, for people
}

// follow has the gateway take over the edited file, says what it serves then,
// and waits for the end of the drain if that was asked for.
func (p *program) follow(ctx context.Context, f *flip) error {
	if f.gateway.apart != "" {
		return p.tellPending(f)
	}
	// Before the reload, so that Ctrl-C never ends more than the waiting.
	patience, stop := ctx, func() {}
	if f.wait {
		patience, stop = signal.NotifyContext(ctx, os.Interrupt)
	}
	defer stop()
	st, how := f.gateway.status, ""
	if !f.settled() {
		var err error
		if st, how, err = p.reloadFor(ctx, f); err != nil {
			return err
		}
	}
	if !f.wait {
		return p.tell(f, st, how)
	}
	if !f.asJSON {
		if err := p.tell(f, st, how); err != nil {
			return err
		}
	}
	st, err := p.awaitQuiet(patience, f)
	if err != nil || !f.asJSON {
		return err
	}
	return p.tell(f, st, how)
}

// reloadFor returns the gateway's status after it has read the edited file, and
// how it got there.
func (p *program) reloadFor(ctx context.Context, f *flip) (st control.Status, how string, err error) {
	began := time.Now()
	report, err := f.gateway.client.Reload(ctx, f.options)
	if err != nil {
		return st, "", fmt.Errorf("%s is changed, but the gateway has not followed: %w", f.path, err)
	}
	if report.Refused() {
		err := p.refused(report)
		err.try = fmt.Sprintf("%s holds the change already: detour check, correct the file, then detour reload", f.path)
		return st, "", err
	}
	how = fmt.Sprintf(" (generation %d, %s)", report.Generation, milliseconds(time.Since(began)))
	p.warnRestart(report)
	st, err = f.gateway.client.Status(ctx)
	return st, how, err
}

// settled reports whether neither the file nor the gateway has to change.
func (f *flip) settled() bool {
	return len(f.options.Drain) == 0 && len(f.options.End) == 0 && !slices.ContainsFunc(f.hosts, func(c flipped) bool {
		now := hostOf(f.gateway.status, c.host)
		return c.changed || now == nil || !c.arrived(now)
	})
}

// flipAnswer is the JSON of a flip.
type flipAnswer struct {
	Config     string         `json:"config"`
	Generation uint64         `json:"generation,omitempty"` // in force; absent when no gateway follows the file
	Pending    string         `json:"pending,omitempty"`    // why none does
	Hosts      []control.Host `json:"hosts"`                // as they are served now
}

// tellPending says that the change is in the file, and not in force yet.
func (p *program) tellPending(f *flip) error {
	if f.asJSON {
		return p.printJSON(flipAnswer{Config: f.path, Pending: f.gateway.apart, Hosts: []control.Host{}})
	}
	if f.all != "" {
		online := 0
		for _, c := range f.hosts {
			if c.want == "online" {
				online++
			}
		}
		fmt.Fprintf(p.stdout, "%s online, %d offline in %s; %s, so it takes effect when one starts with this file\n", count(online, "host"), len(f.hosts)-online, f.path, printable(f.gateway.apart))
		return nil
	}
	for _, c := range f.hosts {
		fmt.Fprintf(p.stdout, "%s %s in %s; %s, so it takes effect when one starts with this file\n", c.host, printable(c.pending), f.path, printable(f.gateway.apart))
	}
	return nil
}

// tell says what the gateway serves now. It returns an error when a host is not in
// the state it should be in.
func (p *program) tell(f *flip, st control.Status, how string) error {
	switch {
	case f.asJSON:
		if err := p.printJSON(f.answer(st)); err != nil {
			return err
		}
	case f.all != "":
		p.tellAll(f, st, how)
		return nil
	}
	var unwilling []string
	for _, c := range f.hosts {
		h := hostOf(st, c.host)
		switch {
		case h == nil:
			unwilling = append(unwilling, c.host+" is gone: somebody has changed the file again")
		case f.all == "" && !c.arrived(h):
			unwilling = append(unwilling, fmt.Sprintf("%s is %s nevertheless: %s", c.host, h.State, nevertheless(h)))
		case !f.asJSON:
			fmt.Fprintln(p.stdout, printable(line(h, c, how, f.clock)))
		}
	}
	if len(unwilling) > 0 {
		return &operatorError{errors.New(strings.Join(unwilling, "; ")), "detour status", exitFailed}
	}
	return nil
}

// answer is what the command prints with --json.
func (f *flip) answer(st control.Status) flipAnswer {
	answer := flipAnswer{Config: f.path, Generation: st.Generation, Hosts: []control.Host{}}
	for _, c := range f.hosts {
		if h := hostOf(st, c.host); h != nil {
			answer.Hosts = append(answer.Hosts, *h)
		}
	}
	return answer
}

// arrived reports whether a host is in the state it should be in; draining counts
// as offline.
func (c flipped) arrived(h *control.Host) bool {
	return c.want == "" || (c.want == "online") == (h.State == "online")
}

// line says what became of one host.
func line(h *control.Host, c flipped, how string, clock clock) string {
	if c.want == "" {
		return c.host + " " + c.pending + how
	}
	if how == "" {
		return fmt.Sprintf("%s was %s already: %s", c.host, standing(h, clock), visitors(h))
	}
	return fmt.Sprintf("%s is %s%s: %s%s", c.host, standing(h, clock), c.note, visitors(h), how)
}

// tellAll counts the hosts by state and explains those that are not in the state
// that all should be in.
func (p *program) tellAll(f *flip, st control.Status, how string) {
	counts := map[string]int{}
	for i := range st.Hosts {
		counts[st.Hosts[i].State]++
	}
	var parts []string
	for _, state := range []string{"online", "draining", "offline"} {
		if counts[state] > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", count(counts[state], "host"), state))
		}
	}
	fmt.Fprintf(p.stdout, "%s%s\n", strings.Join(parts, ", "), how)
	for i := range st.Hosts {
		if h := &st.Hosts[i]; (h.State == "online") != (f.all == "online") {
			fmt.Fprintln(p.stdout, printable(sentence(h, f.clock)))
		}
	}
}

// refusedEdit is the error of an edit after which the file would not be valid. The
// places of its problems are left out: they are those of a file nobody will see.
func refusedEdit(err error) error {
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		return usageError(err, "")
	}
	var why []string
	for _, problem := range problems {
		why = append(why, problem.Key+": "+problem.Message)
	}
	return usageError(fmt.Errorf("nothing was changed: %s", strings.Join(why, "; ")), "")
}

// completeHosts completes the names of hosts that are not in that state yet.
func (p *program) completeHosts(online bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
		return p.flippable(cmd.Context(), given, online), cobra.ShellCompDirectiveNoFileComp
	}
}

// flippable lists the hosts that are not in that state yet and were not given.
func (p *program) flippable(ctx context.Context, given []string, online bool) []string {
	path, err := p.configPath()
	if err != nil {
		return nil
	}
	cfg, _, err := parse(path)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // somebody holds the Tab key
	defer cancel()
	gw, err := meet(ctx, path, cfg)
	if err != nil {
		gw = &peer{apart: "not asked"}
	}
	var names []string
	for i := range cfg.Hosts {
		h := &cfg.Hosts[i]
		if gw.stateOf(h, cfg) != state(online) && !slices.Contains(given, h.Key) {
			names = append(names, h.Key+"\t"+h.Name)
		}
	}
	return names
}

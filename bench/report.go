//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/renameio/v2"
)

// report collects figures and writes the table.
type report struct {
	contestants []contestant
	scenarios   []scenario
	setting     []string // lines above the table: what ran where
	notes       []string // lines below it
	cells       map[cellKey]*cell
}

type cellKey struct{ scenario, contestant string }

// cell is what was measured of one contestant in one scenario.
type cell struct {
	rounds [][]float64 // a figure for each row
	err    error
}

func newReport(contestants []contestant, scenarios []scenario, missing []string, o options, cpus cpuSplit) *report {
	r := &report{contestants: contestants, scenarios: scenarios, notes: slices.Clone(missing), cells: map[cellKey]*cell{}}
	versions := make([]string, len(contestants))
	for i, c := range contestants {
		versions[i] = c.name + " " + c.version
	}
	r.setting = []string{
		"Measured " + time.Now().Format(time.DateOnly) + " on " + machine() + ".",
		fmt.Sprintf("Proxy on CPU %d, clients and backend on CPU %d; median of %d rounds of %v, ± half the distance between the extremes.",
			cpus.proxy, cpus.load, o.rounds, o.duration),
		strings.Join(versions, ", ") + ".",
	}
	return r
}

// add takes a round's result; an error stands for the whole cell.
func (r *report) add(s scenario, c contestant, figures []float64, notes []string, err error) {
	key := cellKey{s.name, c.name}
	if errors.Is(err, errNoCurve) {
		return
	}
	if r.cells[key] == nil {
		r.cells[key] = &cell{}
	}
	for _, note := range notes {
		if !slices.Contains(r.notes, note) {
			r.notes = append(r.notes, note)
		}
	}
	if err != nil {
		r.cells[key].err = err
		return
	}
	r.cells[key].rounds = append(r.cells[key].rounds, figures)
}

// failure names everything that failed.
func (r *report) failure() error {
	var errs []error
	for _, s := range r.scenarios {
		for _, c := range r.contestants {
			if cell := r.cells[cellKey{s.name, c.name}]; cell != nil && cell.err != nil {
				errs = append(errs, fmt.Errorf("%s, %s: %w", s.name, c.name, cell.err))
			}
		}
	}
	return errors.Join(errs...)
}

// markdown is the whole report, with columns that also line up on a terminal.
func (r *report) markdown() string {
	header := []string{"", "scenario", "unit"}
	for _, c := range r.contestants {
		header = append(header, c.name)
	}
	lines := [][]string{header}
	for _, s := range r.scenarios {
		for i, row := range s.rows {
			name := s.name
			if i > 0 {
				name = ""
			}
			line := []string{name, row.title, row.unit}
			for _, c := range r.contestants {
				line = append(line, r.cell(s, c, i))
			}
			lines = append(lines, line)
		}
	}
	var b strings.Builder
	for _, line := range r.setting {
		b.WriteString(line + "\n")
	}
	b.WriteString("In brackets: the peer's figure divided by detour's of the same round, the median of that; above 1, detour needs less.\n\n")
	writeTable(&b, lines)
	r.writeGoals(&b)
	for i, note := range r.notes {
		if i == 0 {
			b.WriteString("\n")
		}
		b.WriteString("- " + note + "\n")
	}
	return b.String()
}

// cell is the text for a contestant in row i of a scenario.
func (r *report) cell(s scenario, c contestant, i int) string {
	own := r.cells[cellKey{s.name, c.name}]
	switch {
	case own == nil:
		return "–"
	case own.err != nil:
		return "**failed**"
	}
	mid, spread := median(own.rounds, i)
	text := figure(mid)
	if spread > mid/1000 { // less is not seen in three digits
		text += " ±" + figure(spread)
	}
	first := r.cells[cellKey{s.name, r.contestants[0].name}]
	if first == own || first == nil || first.err != nil {
		return text
	}
	return text + " (" + strconv.FormatFloat(medianRatio(own.rounds, first.rounds, i, i), 'f', 2, 64) + ")"
}

// writeGoals writes what detour is meant to reach in these scenarios, and what
// it reaches.
func (r *report) writeGoals(b *strings.Builder) {
	lines := [][]string{{"", "row", "Caddy", "", "nginx, HAProxy", "", "detour itself", ""}}
	for _, g := range goals() {
		i := slices.IndexFunc(r.scenarios, func(s scenario) bool { return s.name == g.scenario })
		if i < 0 {
			continue
		}
		row := r.scenarios[i].rows[g.row]
		line := []string{g.scenario, row.title}
		line = append(line, r.ratio(g, g.caddy, "", "Caddy")...)
		if g.nginx > 0 {
			line = append(line, r.ratio(g, g.nginx, " (nginx)", "nginx")...)
		} else {
			line = append(line, r.ratio(g, g.best, "", "nginx", "HAProxy")...)
		}
		lines = append(lines, append(line, r.limit(g, row.unit)...))
	}
	if len(lines) > 1 {
		b.WriteString("\nWhat is aimed at, and what is reached (in bold: not reached). For a peer its figure divided by detour's, of two peers the better one's.\n\n")
		writeTable(b, lines)
	}
}

// ratio are two cells: the goal, and the cheapest of the peers' figures divided
// by detour's.
func (r *report) ratio(g goal, least float64, note string, peers ...string) []string {
	if least == 0 {
		return []string{"", ""}
	}
	text := []string{"≥ " + strconv.FormatFloat(least, 'g', -1, 64) + note, "–"}
	own := r.reached(g.scenario, r.contestants[0].name)
	best := math.Inf(1)
	for _, peer := range peers {
		if theirs := r.reached(g.scenario, peer); own != nil && theirs != nil {
			best = min(best, medianRatio(theirs, own, g.row, g.row))
		}
	}
	if !math.IsInf(best, 1) {
		text[1] = verdict(best, best >= least)
	}
	return text
}

// limit are two cells: the most that detour's figure should be, and what it is; if
// it is so many times another scenario's, of that one's first row.
func (r *report) limit(g goal, unit string) []string {
	if g.most == 0 {
		return []string{"", ""}
	}
	text := []string{"≤ " + strconv.FormatFloat(g.most, 'g', -1, 64) + " ", "–"}
	own := r.reached(g.scenario, r.contestants[0].name)
	var f float64
	if g.of == "" {
		text[0] += unit
		if own != nil {
			f, _ = median(own, g.row)
		}
	} else {
		text[0] += "× " + g.of
		if reference := r.reached(g.of, r.contestants[0].name); own != nil && reference != nil {
			f = medianRatio(own, reference, g.row, 0)
		}
	}
	if f > 0 {
		text[1] = verdict(f, f <= g.most)
	}
	return text
}

// verdict is a figure, in bold when it is not what is aimed at.
func verdict(f float64, good bool) string {
	if good {
		return figure(f)
	}
	return "**" + figure(f) + "**"
}

// reached are a contestant's figures in a scenario, nil when there are none.
func (r *report) reached(scenario, contestant string) [][]float64 {
	c := r.cells[cellKey{scenario, contestant}]
	if c == nil || c.err != nil {
		return nil
	}
	return c.rounds
}

// medianRatio is the median, over the rounds, of figure i of a divided by figure j
// of b. The two of a round were measured within seconds, those of two scenarios
// within minutes: what disturbs the machine for longer is in both, and not in
// their ratio.
func medianRatio(a, b [][]float64, i, j int) float64 {
	ratios := make([][]float64, min(len(a), len(b)))
	for n := range ratios {
		ratios[n] = []float64{a[n][i] / b[n][j]}
	}
	mid, _ := median(ratios, 0)
	return mid
}

// median of figure i over all rounds, and half the distance between the
// smallest and the largest.
func median(rounds [][]float64, i int) (mid, spread float64) {
	figures := make([]float64, len(rounds))
	for n, round := range rounds {
		figures[n] = round[i]
	}
	slices.Sort(figures)
	n := len(figures)
	return (figures[(n-1)/2] + figures[n/2]) / 2, (figures[n-1] - figures[0]) / 2
}

// figure writes three significant digits, and no fraction above 100.
func figure(f float64) string {
	switch {
	case f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	default:
		return strconv.FormatFloat(f, 'f', 2, 64)
	}
}

// writeTable writes a Markdown table, the first line as its header.
func writeTable(b *strings.Builder, lines [][]string) {
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, text := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for n, line := range lines {
		for i, text := range line {
			b.WriteString("| " + text + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+1))
		}
		b.WriteString("|\n")
		if n == 0 {
			for _, width := range widths {
				b.WriteString("|" + strings.Repeat("-", width+2))
			}
			b.WriteString("|\n")
		}
	}
}

const (
	beginMark = "<!-- bench:begin -->\n"
	endMark   = "<!-- bench:end -->"
)

// replaceTable puts text between the marks in a file.
func replaceTable(path, text string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	head, rest, found := bytes.Cut(data, []byte(beginMark))
	_, tail, closed := bytes.Cut(rest, []byte(endMark))
	if !found || !closed {
		return fmt.Errorf("%s has no place for the table: it needs a line %s and a line %s", path, strings.TrimSpace(beginMark), endMark)
	}
	whole := slices.Concat(head, []byte(beginMark), []byte(text), []byte(endMark), tail)
	return renameio.WriteFile(path, whole, 0o644, renameio.WithExistingPermissions())
}

// machine describes where this runs.
func machine() string {
	cpu := "an unknown CPU"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel := "an unknown kernel"
	if data, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		release, _, _ := strings.Cut(strings.TrimSpace(string(data)), "-") // the rest names the machine, not the kernel
		kernel = "Linux " + release
	}
	return fmt.Sprintf("%s (%d CPUs), %s, %s", cpu, runtime.NumCPU(), kernel, runtime.GOARCH)
}

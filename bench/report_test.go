//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReplaceTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("# Title\n" + beginMark + "old\n" + endMark + "\nrest\n")
	for range 2 { // the second finds what the first wrote
		if err := replaceTable(path, "new\n"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("# Title\n"+beginMark+"new\n"+endMark+"\nrest\n", string(got)); diff != "" {
		t.Errorf("page (-want +got):\n%s", diff)
	}
	for _, text := range []string{"no marks", beginMark + "no end", endMark + beginMark} {
		write(text)
		if err := replaceTable(path, "new\n"); err == nil {
			t.Errorf("replaceTable on %q = nil; want an error", text)
		}
	}
}

func TestMedian(t *testing.T) {
	tests := []struct {
		name        string
		in          []float64
		mid, spread float64
	}{
		{"one", []float64{3}, 3, 0},
		{"odd", []float64{9, 1, 2}, 2, 4},
		{"even", []float64{4, 1, 2, 9}, 3, 4},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var rounds [][]float64
			for _, f := range tt.in {
				rounds = append(rounds, []float64{-1, f})
			}
			if mid, spread := median(rounds, 1); mid != tt.mid || spread != tt.spread {
				t.Errorf("median(%v) = %v, %v; want %v, %v", tt.in, mid, spread, tt.mid, tt.spread)
			}
		})
	}
}

func TestReportTable(t *testing.T) {
	detour, peer, other := contestant{name: "detour"}, contestant{name: "peer"}, contestant{name: "other"}
	s := scenario{name: "x", rows: []row{{"requests", microseconds}, {"size", "bytes"}}}
	r := newReport([]contestant{detour, peer, other}, []scenario{s}, []string{"third is left out: not installed"}, options{rounds: 3}, cpuSplit{1, 0})
	for _, f := range [][2]float64{{10, 20}, {20, 60}, {12, 18}} { // the ratio of the medians is 1.67, the median ratio 2
		r.add(s, detour, []float64{f[0], 200}, nil, nil)
		r.add(s, peer, []float64{f[1], 100}, nil, nil)
	}
	r.add(s, other, []float64{1, 1}, nil, nil)
	r.add(s, other, nil, nil, errors.New("status 502; want 200"))

	text := r.markdown()
	for _, want := range []string{
		"| x | requests | µs    | 12.0 ±5.00 | 20.0 ±21.0 (2.00) | **failed** |\n",
		"|   | size     | bytes | 200        | 100 (0.50)        | **failed** |\n",
		"- third is left out: not installed\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("report lacks %q:\n%s", want, text)
		}
	}
	if err := r.failure(); err == nil || !strings.Contains(err.Error(), "x, other: status 502") {
		t.Errorf("failure() = %v; want what failed and why", err)
	}
}

func TestReportGoals(t *testing.T) {
	detour, nginx, haproxy, caddy := contestant{name: "detour"}, contestant{name: "nginx"}, contestant{name: "HAProxy"}, contestant{name: "Caddy"}
	all := scenarios()
	r := newReport([]contestant{detour, nginx, haproxy, caddy}, all, nil, options{rounds: 1}, cpuSplit{1, 0})
	for _, s := range all {
		own := make([]float64, len(s.rows))
		for i := range own {
			own[i] = 10
		}
		if s.name == "n1000" {
			own[0] = 11.5
		}
		r.add(s, detour, own, nil, nil)
		if s.name == "a" {
			r.add(s, nginx, []float64{20}, nil, nil)
			r.add(s, haproxy, []float64{9}, nil, nil)
			r.add(s, caddy, []float64{70}, nil, nil)
		}
	}
	got := strings.Join(strings.Fields(r.markdown()), " ")
	for _, want := range []string{
		"| a | 1 KiB, HTTP/1.1, 64 connections | ≥ 7 | 7.00 | ≥ 1 | **0.90** | | |",
		"| b64 | 1 KiB, HTTP/2, 64 connections × 1 stream | ≥ 7 | – | ≥ 0.9 | – | | |",
		"| n1000 | as a, 1,000 hosts with a log each | | | ≥ 1 | – | ≤ 1.1 × a | **1.15** |",
		"| i | idle TLS connection that made one request, memory | | | | | ≤ 25 KiB | 10.0 |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("report lacks %q:\n%s", want, r.markdown())
		}
	}
	for _, g := range goals() {
		if !slices.ContainsFunc(all, func(s scenario) bool { return s.name == g.scenario && g.row < len(s.rows) }) {
			t.Errorf("goal for %q, row %d, which does not exist", g.scenario, g.row)
		}
	}
}

func TestSelectScenarios(t *testing.T) {
	everything, short := selectScenarios(options{only: regexp.MustCompile("")}), selectScenarios(options{only: regexp.MustCompile(""), short: true})
	if len(short) == 0 || len(short) >= len(everything) {
		t.Errorf("-short selects %d of %d scenarios; want some of them", len(short), len(everything))
	}
	seen := map[string]bool{}
	for _, s := range everything {
		if seen[s.name] {
			t.Errorf("two scenarios are called %q", s.name)
		}
		seen[s.name] = true
	}
}

func TestPageDoesDocument(t *testing.T) {
	page, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scenarios() {
		if !strings.Contains(string(page), "`"+s.name+"`") {
			t.Errorf("docs/performance.md does not say what `%s` is", s.name)
		}
	}
}

// TestProcessSeesItsWorkers: CPU time and memory of a child's child count.
func TestProcessSeesItsWorkers(t *testing.T) {
	cpus, err := splitCPUs()
	if err != nil {
		t.Skip(err)
	}
	p, err := startProcess(exec.Command("sh", "-c", "sh -c 'while :; do :; done' & wait"), cpus)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		used, err := p.cpuTime()
		if err != nil {
			t.Fatal(err)
		}
		pids, err := p.pids()
		if err != nil {
			t.Fatal(err)
		}
		if len(pids) == 2 && used > 20*time.Millisecond {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("processes %v used %v; want two that are busy", pids, used)
		}
		time.Sleep(time.Millisecond)
	}
	if memory, err := p.memory(); err != nil || memory <= 0 {
		t.Errorf("memory() = %d, %v; want some", memory, err)
	}
}

package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"detour/logging"
)

// say logs what a program may log.
func say(l *slog.Logger) {
	l.Debug("left out")
	l.With("host", "blog").WithGroup("tls").Info("certificate served",
		"names", []string{"a", "b"},
		slog.Group("leaf", "days", 90, "left", 1500*time.Millisecond),
		"addr", netip.MustParseAddr("192.0.2.1"),
		slog.Group("empty"),
	)
	l.Error("order a certificate", "error", fmt.Errorf("wrapped: %w", errors.New("no \"token\"\nset")), "ok", true, "none", nil, "text", "")
}

func TestProcessOnATerminal(t *testing.T) {
	var buf bytes.Buffer
	p := logging.NewProcess(&buf, logging.Terminal, slog.LevelInfo)
	say(p.Slog)
	p.Zap.Named("acme").Warn("obtaining\x1b[2J", zap.Duration("in", time.Minute), zap.Strings("identifiers", []string{"x"}))
	var got []string
	for line := range strings.Lines(buf.String()) {
		clock, rest, _ := strings.Cut(line, " ")
		if _, err := time.Parse("15:04:05.000", clock); err != nil {
			t.Errorf("line %q does not begin with the time: %v", line, err)
		}
		got = append(got, rest)
	}
	want := []string{
		`INFO  certificate served host=blog tls.names=["a","b"] tls.leaf.days=90 tls.leaf.left=1.5s tls.addr=192.0.2.1` + "\n",
		`ERROR order a certificate error="wrapped: no \"token\"\nset" ok=true none=null text=""` + "\n",
		`WARN  acme: obtaining` + "\ufffd" + `[2J in=1m0s identifiers=["x"]` + "\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestProcessAsJSON(t *testing.T) {
	var buf bytes.Buffer
	p := logging.NewProcess(&buf, logging.JSON, slog.LevelInfo)
	say(p.Slog)
	p.Zap.Named("acme").Warn("obtaining", zap.Duration("in", time.Minute))
	var got []map[string]any
	for line := range bytes.Lines(buf.Bytes()) {
		var one map[string]any
		if err := json.Unmarshal(line, &one); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if _, err := time.Parse(time.RFC3339Nano, one["time"].(string)); err != nil {
			t.Errorf("time: %v", err)
		}
		delete(one, "time")
		got = append(got, one)
	}
	want := []map[string]any{
		{"level": "info", "msg": "certificate served", "host": "blog", "tls": map[string]any{
			"names": []any{"a", "b"}, "leaf": map[string]any{"days": 90.0, "left": "1.5s"}, "addr": "192.0.2.1"}},
		{"level": "error", "msg": "order a certificate", "error": "wrapped: no \"token\"\nset", "ok": true, "none": nil, "text": ""},
		{"level": "warn", "logger": "acme", "msg": "obtaining", "in": "1m0s"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// The journal takes the priority off a line, and shows the rest.
func TestProcessToTheJournal(t *testing.T) {
	var buf bytes.Buffer
	p := logging.NewProcess(&buf, logging.Journal, slog.LevelDebug)
	for _, say := range []func(string, ...any){p.Slog.Debug, p.Slog.Info, p.Slog.Warn, p.Slog.With("host", "blog").Error} {
		say("two\nlines", "error", errors.New("of\nthree\nlines"))
	}
	p.Zap.Named("acme").DPanic("from certmagic")
	var got []string
	for line := range strings.Lines(buf.String()) {
		priority, object, _ := strings.Cut(line, "{")
		if !json.Valid([]byte("{" + object)) {
			t.Errorf("line %q is no JSON object after its priority", line)
		}
		got = append(got, priority)
	}
	if diff := cmp.Diff([]string{"<7>", "<6>", "<4>", "<3>", "<3>"}, got); diff != "" {
		t.Errorf("priorities (-want +got):\n%s", diff)
	}
}

func TestProcessLevel(t *testing.T) {
	var buf bytes.Buffer
	p := logging.NewProcess(&buf, logging.JSON, slog.LevelWarn)
	p.Slog.Info("one")
	p.Zap.Info("two")
	p.Slog.Warn("three")
	p.Zap.Warn("four")
	if got := buf.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "three") || !strings.Contains(got, "four") {
		t.Errorf("log = %q; want three and four", got)
	}
	if p.Slog.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("Enabled(info) at level warn")
	}
}

package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// run tells one notice to a command, as JSON on its standard input and in
// variables. A command that fails is not run again: it may have done half its work.
func (n *Notifier) run(command []string, notice Notice) func(context.Context) time.Duration {
	return func(ctx context.Context) time.Duration {
		ctx, cancel := context.WithTimeout(ctx, commandLimit)
		defer cancel()
		if err := runCommand(ctx, command, notice); err != nil {
			n.log.Warn("the notice's command did not succeed", "event", notice.Event, "host", notice.Host, "program", command[0], "error", err)
		}
		return 0
	}
}

func runCommand(ctx context.Context, command []string, notice Notice) error {
	var output tail
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(notice.json())
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = environment(notice)
	// A group of its own, so that what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for pipes that a child in the background keeps open
	err := cmd.Run()
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay): // it may leave a child behind
		return nil
	case ctx.Err() == context.DeadlineExceeded:
		return fmt.Errorf("took longer than %s and was ended", commandLimit)
	case output.Len() > 0:
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(output.String()))
	}
	return err
}

// environment is a command's: the notice, and of ours only what holds no secrets.
func environment(notice Notice) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	until := ""
	if !notice.Until.IsZero() {
		until = notice.Until.Format(time.RFC3339)
	}
	for _, v := range [][2]string{
		{"EVENT", notice.Event},
		{"HOST", notice.Host},
		{"TEXT", notice.Text},
		{"CAUSE", notice.Cause},
		{"REASON", notice.Reason},
		{"UNTIL", until},
		{"TIME", notice.Time.Format(time.RFC3339)},
	} {
		env = append(env, "DETOUR_"+v[0]+"="+plain(v[1]))
	}
	return env
}

// tail keeps the end of what a command said.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const most = 1 << 10 // the message that matters is the last one
	n, err := t.Buffer.Write(p[max(0, len(p)-most):])
	if over := t.Len() - most; over > 0 {
		t.Next(over)
	}
	return n + max(0, len(p)-most), err
}

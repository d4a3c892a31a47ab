package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"detour/config"
	"detour/control"

	"github.com/coreos/go-systemd/v22/journal"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and failed, or was refused
	exitUsage  = 2 // a mistake in the call or in the configuration
)

// operatorError is an error with what the operator can do about it and the
// exit status it deserves.
type operatorError struct {
	err    error
	try    string // a command or a hint; "" = the error says it all
	status int
}

func (e *operatorError) Error() string { return e.err.Error() }
func (e *operatorError) Unwrap() error { return e.err }

func usageError(err error, try string) error {
	return &operatorError{err: err, try: try, status: exitUsage}
}

// fail prints err and what to try, and returns the exit status. Problems of the
// configuration are a line each, and their number; another error is an `Error:`
// line, or several if it joins errors.
func (p *program) fail(err error) int {
	if problems, ok := errors.AsType[config.Problems](err); ok {
		for _, problem := range problems {
			p.complain("%s", problem.Error())
		}
		p.complain("Error: %s in %s", count(len(problems), "mistake"), filepath.Base(problems[0].File))
		return exitUsage
	}
	known := remedyFor(err)
	for finding := range strings.SplitSeq(known.err.Error(), "\n") { // of errors.Join
		p.complain("Error: %s", finding)
	}
	if known.try != "" {
		p.complain("Try: %s", known.try)
	}
	return known.status
}

// complain prints a line about an error.
func (p *program) complain(format string, args ...any) {
	p.line(journal.PriErr, format, args...)
}

// warn prints a line that begins with Warning.
func (p *program) warn(format string, args ...any) {
	p.line(journal.PriWarning, "Warning: "+format, args...)
}

// line prints a line to stderr. If that is the journal, the line begins with its
// priority (sd-daemon(3)).
func (p *program) line(priority journal.Priority, format string, args ...any) {
	text := printable(fmt.Sprintf(format, args...))
	if p.journal {
		text = fmt.Sprintf("<%d>%s", priority, text)
	}
	fmt.Fprintln(p.stderr, text)
}

// isJournal reports whether w is the program's stderr and leads to systemd's
// journal.
func isJournal(w io.Writer) bool {
	if w != os.Stderr {
		return false
	}
	is, _ := journal.StderrIsJournalStream() // an error: systemd has not set it
	return is
}

// remedyFor finds the remedy for an error that does not carry one.
func remedyFor(err error) *operatorError {
	if known, ok := errors.AsType[*operatorError](err); ok {
		return known
	}
	socket, denied := errors.AsType[*control.PermissionError](err)
	file, ofFile := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return &operatorError{err, "detour run, or as a service: sudo systemctl start detour; restart it if control.socket was changed while it ran", exitFailed}
	case errors.Is(err, control.ErrSilent):
		return &operatorError{err, "journalctl -u detour for the cause, then sudo systemctl restart detour", exitFailed}
	case errors.Is(err, control.ErrInUse):
		return &operatorError{err, "detour status; to let the running one read its file again: detour reload", exitFailed}
	case denied:
		return &operatorError{err, joinGroup(socket.Group), exitFailed}
	case ofFile && errors.Is(err, fs.ErrPermission):
		return &operatorError{err, fmt.Sprintf("the same command with sudo, or let the user %s use %s", userName(), file.Path), exitFailed}
	}
	return &operatorError{err, "", exitFailed}
}

func userName() string {
	me, err := user.Current()
	if err != nil {
		return strconv.Itoa(os.Getuid())
	}
	return me.Username
}

func joinGroup(group string) string {
	if group == "" || group == "root" {
		return "the same command with sudo"
	}
	return fmt.Sprintf("the same command with sudo, or join the group once: sudo usermod -aG %s $USER, then log in again", group)
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"detour/config"
	"detour/control"
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

// fail prints err as one `Error:` line, after the configuration's problems if
// it is made of them, then what to try, and returns the exit status.
func (p *program) fail(err error) int {
	if problems, ok := errors.AsType[config.Problems](err); ok {
		for _, problem := range problems {
			fmt.Fprintln(p.stderr, printable(problem.Error()))
		}
		fmt.Fprintf(p.stderr, "Error: %s in %s\n", count(len(problems), "mistake"), filepath.Base(problems[0].File))
		return exitUsage
	}
	known := remedyFor(err)
	fmt.Fprintf(p.stderr, "Error: %s\n", printable(known.err.Error()))
	if known.try != "" {
		fmt.Fprintf(p.stderr, "Try: %s\n", known.try)
	}
	return known.status
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

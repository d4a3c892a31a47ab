package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ErrInUse is what Listen reports when another gateway answers on the socket.
var ErrInUse = errors.New("another gateway is running")

// The socket's group may flip hosts, so it is closed to everybody else.
const (
	socketMode = 0o660
	dirMode    = 0o750
)

// reloadPath is the only request that may take long.
const reloadPath = "/v1/reload"

const (
	// reloadTimeout is how long a client waits for a reload. That reads one file
	// and dials nothing: a minute means that something hangs, and the operator
	// should hear that before the patience of a terminal ends.
	reloadTimeout = time.Minute
	// requestTimeout is for a whole request to arrive: it comes from the same
	// machine, so ten seconds are generous, and a client that forgets to send
	// cannot hold a goroutine.
	requestTimeout = 10 * time.Second
	// maxRequest is ample for the names of a few thousand hosts.
	maxRequest = 256 << 10
)

// Server answers clients on the control socket. Use Listen, then Serve in a
// goroutine of its own, then Shutdown.
type Server struct {
	board    Switchboard
	log      *slog.Logger
	http     *http.Server
	path     string // set by Listen
	listener *net.UnixListener
}

// NewServer returns a Server that asks board and speaks to log.
func NewServer(board Switchboard, log *slog.Logger) *Server {
	s := &Server{board: board, log: log}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST "+reloadPath, s.reload)
	mux.HandleFunc("POST /v1/bypass", s.bypass)
	mux.HandleFunc("POST /v1/explain", s.explain)
	mux.HandleFunc("POST /v1/certificates/retry", s.retryCertificates)
	mux.HandleFunc("GET /v1/local-root", s.localRoot)
	s.http = &http.Server{
		Handler:        http.MaxBytesHandler(mux, maxRequest),
		ReadTimeout:    requestTimeout,
		WriteTimeout:   requestTimeout + reloadTimeout, // counts from the request's header, and outlasts every client
		IdleTimeout:    requestTimeout,
		MaxHeaderBytes: 8 << 10, // our client sends a few hundred bytes
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

// Listen opens the unix socket at path with mode 0660. A missing directory is
// made, with mode 0750. A socket left behind by a gateway that was killed is
// replaced; one that is answered is ErrInUse. Anything else at that path is an
// error and stays.
func (s *Server) Listen(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
		return fmt.Errorf("make the control socket's directory: %w", err)
	}
	if err := vacant(path); err != nil {
		return fmt.Errorf("listen on control socket: %w", err)
	}
	// Bound where only we can reach it, given its mode, then renamed: nobody can
	// connect before the mode is right, and a stale socket is replaced in one step.
	private := filepath.Join(filepath.Dir(path), "."+strconv.Itoa(os.Getpid()))
	temporary := filepath.Join(private, "s")
	if limit := len(syscall.RawSockaddrUnix{}.Path) - 1; max(len(path), len(temporary)) > limit {
		return fmt.Errorf("listen on control socket %s: the path is longer than the %d bytes that a socket's may have", path, limit)
	}
	// One that is there was left behind by a gateway of our number that was killed.
	if err := errors.Join(os.RemoveAll(private), os.Mkdir(private, 0o700)); err != nil {
		if of, ok := errors.AsType[*fs.PathError](err); ok {
			err = &fs.PathError{Op: "write to", Path: filepath.Dir(path), Err: of.Err} // private means nothing to an operator
		}
		return fmt.Errorf("listen on control socket: %w", err)
	}
	defer os.RemoveAll(private)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return fmt.Errorf("listen on control socket %s: %w", path, errors.Unwrap(err))
	}
	l.SetUnlinkOnClose(false) // its name changes; close removes it
	if err := errors.Join(os.Chmod(temporary, socketMode), os.Rename(temporary, path)); err != nil {
		l.Close()
		return fmt.Errorf("listen on control socket: %w", err)
	}
	s.path, s.listener = path, l
	return nil
}

// vacant reports why a socket must not be put at path; nil when nothing is
// there, or only a socket that nobody answers.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second) // a living gateway's kernel accepts at once
	if err == nil {
		conn.Close()
		return fmt.Errorf("%w: it answers on %s", ErrInUse, path)
	}
	if !isAbsent(err) {
		return err
	}
	return nil
}

// Serve answers until Shutdown; then it returns nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control socket: %w", err)
	}
	return nil
}

// Shutdown removes the socket, lets the requests in flight end, and cuts them
// when ctx ends first. It may be called more than once, and without Listen.
func (s *Server) Shutdown(ctx context.Context) error {
	if s.listener != nil && s.path != "" {
		os.Remove(s.path) // before closing: from then on a new gateway may own the name
		s.path = ""
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		s.http.Close()
	}
	if s.listener != nil {
		s.listener.Close() // of a Server that never served; else it is closed already
	}
	return err
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	s.answer(w, http.StatusOK, s.board.Status())
}

// reload goes on without its client: the file has been changed, so the gateway
// should follow it whether or not somebody still waits for the answer.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	var options ReloadOptions
	if !s.read(w, r, &options) {
		return
	}
	report := s.board.Reload(options)
	code := http.StatusOK
	if report.Refused() {
		code = http.StatusUnprocessableEntity
	}
	s.answer(w, code, report)
}

// bypassRequest is the body of POST /v1/bypass, bypassAnswer that of its answer.
type bypassRequest struct {
	Host string        `json:"host"`
	For  time.Duration `json:"for"` // nanoseconds
}
type bypassAnswer struct {
	Link string `json:"link"`
}

func (s *Server) bypass(w http.ResponseWriter, r *http.Request) {
	var body bypassRequest
	if !s.read(w, r, &body) {
		return
	}
	link, err := s.board.Bypass(body.Host, body.For)
	if err != nil {
		s.answer(w, http.StatusConflict, errorAnswer{err.Error()})
		return
	}
	s.answer(w, http.StatusOK, bypassAnswer{link})
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	var body ExplainRequest
	if !s.read(w, r, &body) {
		return
	}
	explanation, err := s.board.Explain(body)
	if err != nil {
		s.answer(w, http.StatusBadRequest, errorAnswer{err.Error()})
		return
	}
	s.answer(w, http.StatusOK, explanation)
}

// retryRequest is the body of POST /v1/certificates/retry.
type retryRequest struct {
	Names []string `json:"names"` // none = all that fail
}

func (s *Server) retryCertificates(w http.ResponseWriter, r *http.Request) {
	var body retryRequest
	if !s.read(w, r, &body) {
		return
	}
	s.board.RetryCertificates(body.Names...)
	w.WriteHeader(http.StatusNoContent)
}

// read decodes the body into v, or answers that it cannot. A request without a
// body leaves v as it is.
func (s *Server) read(w http.ResponseWriter, r *http.Request, v any) bool {
	err := json.NewDecoder(r.Body).Decode(v)
	if err != nil && !errors.Is(err, io.EOF) {
		s.answer(w, http.StatusBadRequest, errorAnswer{"body: " + err.Error()})
		return false
	}
	return true
}

func (s *Server) localRoot(w http.ResponseWriter, _ *http.Request) {
	root, err := s.board.LocalRoot()
	if err != nil {
		s.answer(w, http.StatusInternalServerError, errorAnswer{err.Error()})
		return
	}
	w.Header().Set("Content-Type", "application/x-pem-file")
	s.sent(w.Write(root))
}

// errorAnswer is the body of every answer that is not what was asked for.
type errorAnswer struct {
	Error string `json:"error"`
}

func (s *Server) answer(w http.ResponseWriter, code int, body any) {
	data, err := json.MarshalIndent(body, "", "  ") // people read it too, with curl --unix-socket
	if err != nil {
		s.log.Error("control answer cannot be encoded", "error", err)
		http.Error(w, `{"error":"answer cannot be encoded"}`, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	s.sent(w.Write(append(data, '\n')))
}

func (s *Server) sent(_ int, err error) {
	if err != nil {
		s.log.Debug("control client went away", "error", err)
	}
}

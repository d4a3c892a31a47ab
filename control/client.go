package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning means that no gateway answers on the socket: there is none, or
// only the one of a gateway that was killed.
var ErrNotRunning = errors.New("no gateway is running")

// ErrSilent means that the connection was accepted but not answered: the gateway
// hangs, or the machine is overloaded.
var ErrSilent = errors.New("the gateway does not answer")

// PermissionError means that the socket is there for others: a gateway may be
// running, but this user may not talk to it.
type PermissionError struct {
	Path  string // of the socket
	Group string // whose members may use it; "" = unknown
	Err   error
}

func (e *PermissionError) Error() string {
	if e.Group == "" {
		return fmt.Sprintf("no permission to use the control socket %s", e.Path)
	}
	return fmt.Sprintf("no permission to use the control socket %s: it is for root and the group %s", e.Path, e.Group)
}

func (e *PermissionError) Unwrap() error { return e.Err }

// answerTimeout is for what the gateway answers from memory: at once, or within
// seconds when it has just got thousands of hosts and makes a certificate for each.
const answerTimeout = 20 * time.Second

// maxAnswer bounds what a Client reads: the status of ten thousand hosts is
// below it.
const maxAnswer = 16 << 20

// Client talks to the gateway behind one control socket. It keeps no
// connection open and may be used by several goroutines at once.
//
// Each method fails with ErrNotRunning, ErrSilent or a *PermissionError when it
// cannot reach a gateway.
type Client struct {
	path     string
	patience time.Duration // for any answer but a reload's
	http     *http.Client
}

// NewClient returns a Client for the socket at path. It does not connect yet.
func NewClient(path string) *Client {
	dialer := net.Dialer{Timeout: 5 * time.Second} // same machine: it connects at once or the gateway hangs
	return &Client{path: path, patience: answerTimeout, http: &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &st)
	return st, err
}

// Reload has the gateway read its configuration again and waits until the new
// state serves. A refused reload is not an error: see Report.Refused.
func (c *Client) Reload(ctx context.Context, o ReloadOptions) (Report, error) {
	var report Report
	err := c.call(ctx, http.MethodPost, reloadPath, o, &report)
	return report, err
}

// Bypass asks for a link by which one person reaches the upstream of an
// offline host for d.
func (c *Client) Bypass(ctx context.Context, host string, d time.Duration) (string, error) {
	var answer bypassAnswer
	err := c.call(ctx, http.MethodPost, "/v1/bypass", bypassRequest{Host: host, For: d}, &answer)
	return answer.Link, err
}

// Explain asks what the gateway would do with a request.
func (c *Client) Explain(ctx context.Context, r ExplainRequest) (Explanation, error) {
	var explanation Explanation
	err := c.call(ctx, http.MethodPost, "/v1/explain", r, &explanation)
	return explanation, err
}

// RetryCertificates has the gateway order failing certificates again now; no
// names = all.
func (c *Client) RetryCertificates(ctx context.Context, names ...string) error {
	return c.call(ctx, http.MethodPost, "/v1/certificates/retry", retryRequest{Names: names}, nil)
}

// LocalRoot asks for the local CA's root certificate in PEM.
func (c *Client) LocalRoot(ctx context.Context) ([]byte, error) {
	var root []byte
	err := c.call(ctx, http.MethodGet, "/v1/local-root", nil, &root)
	return root, err
}

// call sends one request. A *[]byte takes the answer as it is, any other
// answer is decoded from JSON, nil takes none.
func (c *Client) call(ctx context.Context, method, path string, body, answer any) error {
	var send io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("ask the gateway: %w", err)
		}
		send = bytes.NewReader(data)
	}
	limit := c.patience
	if path == reloadPath {
		limit = reloadTimeout
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, ErrSilent)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://detour"+path, send)
	if err != nil {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	code, data, err := c.exchange(req)
	switch {
	case err != nil && context.Cause(ctx) == ErrSilent:
		return fmt.Errorf("%w: it took the connection on %s and was silent for %s", ErrSilent, c.path, limit)
	case err != nil:
		return c.unreachable(err)
	}
	return decode(code, data, answer)
}

func (c *Client) exchange(req *http.Request) (code int, data []byte, err error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, data, err
}

// decode reads an answer. 422 is a refused reload: its body is a Report.
func decode(code int, data []byte, answer any) error {
	if code >= http.StatusBadRequest && code != http.StatusUnprocessableEntity {
		var refusal errorAnswer
		if json.Unmarshal(data, &refusal) != nil || refusal.Error == "" {
			return fmt.Errorf("the gateway answered %d %s; is it another version of detour?", code, http.StatusText(code))
		}
		return fmt.Errorf("the gateway answered: %s", refusal.Error)
	}
	switch answer := answer.(type) {
	case nil:
		return nil
	case *[]byte:
		*answer = data
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("read the gateway's answer: %w", err)
	}
	return nil
}

// unreachable turns the error of a request that got no answer into the one of
// the contract.
func (c *Client) unreachable(err error) error {
	switch {
	case isAbsent(err):
		return fmt.Errorf("%w: nobody answers on %s", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return &PermissionError{Path: c.path, Group: GroupOf(c.path), Err: err}
	}
	// The url.Error around it says `Get "http://detour/v1/status"`, which
	// means nothing to an operator.
	if request, ok := errors.AsType[*url.Error](err); ok {
		err = request.Err
	}
	return fmt.Errorf("ask the gateway on %s: %w", c.path, err)
}

// isAbsent reports whether err of a dial says that nobody listens there.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOTDIR)
}

// GroupOf names the group that owns path, or the nearest directory above it
// that can be seen; "" = unknown.
func GroupOf(path string) string {
	for {
		info, err := os.Stat(path)
		if err == nil {
			stat, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return ""
			}
			gid := strconv.FormatUint(uint64(stat.Gid), 10)
			if g, err := user.LookupGroupId(gid); err == nil {
				return g.Name
			}
			return gid
		}
		parent := filepath.Dir(path)
		if parent == path {
			return ""
		}
		path = parent
	}
}

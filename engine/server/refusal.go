package server

import (
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"detour/engine/accept"
	"detour/engine/wire"
)

// errHeadTooLong says that a head is over the limit.
var errHeadTooLong = errors.New("request head over the limit")

// statusOf is the status that answers a head that could not be read because of err.
func statusOf(err error) int {
	if m, ok := errors.AsType[wire.Malformed](err); ok {
		return m.Status()
	}
	return http.StatusRequestHeaderFieldsTooLarge
}

// refuse answers a head that is no request, because of err. Nothing that follows it
// on the connection is read as one.
func (c *conn) refuse(err error) {
	status := statusOf(err)
	c.server.refusals.note(err.Error(), c.remote)
	text := strconv.Itoa(status) + " " + http.StatusText(status)
	_ = c.out.SetWriteDeadline(time.Now().Add(accept.Patience)) // it may not be reading at all
	answer := "HTTP/1.1 " + text + "\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" + text
	if c.write([]byte(answer)) == nil {
		c.linger(accept.Patience)
	}
}

// tally logs what clients did wrong: the first time at once, then one line a
// kind and minute.
type tally struct {
	log *slog.Logger

	mu    sync.Mutex // guards kinds
	kinds map[string]*mistakes
}

// mistakes counts one kind. There are only so many kinds, as the reasons are
// constant texts.
type mistakes struct {
	logged time.Time
	silent int
}

func (t *tally) note(kind, client string) {
	now := time.Now()
	t.mu.Lock()
	m := t.kinds[kind]
	if m == nil {
		if t.kinds == nil {
			t.kinds = make(map[string]*mistakes)
		}
		m = &mistakes{}
		t.kinds[kind] = m
	}
	m.silent++
	count := m.silent
	due := now.Sub(m.logged) >= time.Minute
	if due {
		m.logged, m.silent = now, 0
	}
	t.mu.Unlock()
	if due {
		t.log.Info("refused requests", "reason", kind, "count", count, "last_client", client)
	}
}

package h2

import (
	"net/http"

	"detour/engine/wire"
)

// sendInterim sends a 1xx answer.
func (w *responseWriter) sendInterim(status int) {
	if status == http.StatusSwitchingProtocols {
		return // HTTP/2 has none (RFC 9113, section 8.6)
	}
	var fields []answerField
	sorted := wire.Sort(w.header)
	defer sorted.Release()
	for i := range sorted.Len() {
		switch name, values := sorted.At(i); name {
		case "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Upgrade":
		default:
			fields = appendFields(fields, name, values)
		}
	}
	w.st.c.sendInterim(w.st, status, fields)
}

// sendContinue asks the client for its body, unless it has got an answer.
func (w *responseWriter) sendContinue() { w.st.c.sendInterim(w.st, http.StatusContinue, nil) }

func (c *Conn) sendInterim(st *stream, status int, fields []answerField) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waitRoom(st) == nil && !st.writer.sent {
		c.appendBlock(st.id, status, fields, -1, false)
		c.kick()
	}
}

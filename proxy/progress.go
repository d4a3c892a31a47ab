package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// LimitProgress cuts a request whose client makes no progress for d: sends nothing of a
// body that is being read, or takes nothing of an answer that is being written. Then
// the Read or Write fails with os.ErrDeadlineExceeded or an error of the connection.
// Time in which next waits for something else, such as an upstream, does not count, and
// as long as something moves nothing limits a request's length or duration.
//
// Streams that may be silent by design are left alone: answers of type
// text/event-stream, upgraded connections (hijacked, or an extended CONNECT), and gRPC
// calls that were answered as such, which have a keep-alive of their own. d = 0 means
// no limit.
func LimitProgress(next http.Handler, d time.Duration) http.Handler {
	if d <= 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			next.ServeHTTP(w, r)
			return
		}
		p := &progress{ResponseWriter: w, limit: d, call: r.ProtoMajor >= 2 && isGRPC(r.Header)}
		defer p.finish()
		if r.Body != nil && r.Body != http.NoBody {
			// The server's own request keeps its Body: net/http's HTTP/1
			// server looks at it to decide whether it waits for what the
			// handler left unread. It fills the trailers in when it has
			// read the body, into a map that has to be there now.
			if r.Trailer == nil && r.ContentLength < 0 {
				r.Trailer = make(http.Header)
			}
			p.body = r.Body
			r = r.WithContext(r.Context())
			r.Body = progressBody{p}
		}
		next.ServeHTTP(p, r)
	})
}

// writePiece is how much is written before the next look at the clock, so that
// a slow reader of one long Write is seen to move. A TLS record holds as much.
const writePiece = 16 << 10

// progress watches one request. It sets no deadline while all goes well: a
// deadline that fires between two reads would, on HTTP/1, cancel the request,
// and, on HTTP/2, break a body whose upstream is slow.
type progress struct {
	http.ResponseWriter
	body        io.ReadCloser
	limit       time.Duration
	call        bool // it is a gRPC call, if its answer agrees: what a client says of itself lifts no limit
	wroteHeader bool

	mu       sync.Mutex // guards the rest; never held while reading or writing
	reading  operation
	writing  operation
	timer    *time.Timer // nil until something is read or written
	armed    bool        // timer will fire
	lifted   bool        // the limit does not apply any more
	hijacked bool
	bodyEnd  bool // nothing more is to be read
}

// operation is one Read or Write on its way.
type operation struct {
	pending bool
	since   time.Time
}

func (p *progress) begin(op *operation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op.pending, op.since = true, time.Now()
	if p.armed || p.lifted {
		return
	}
	p.armed = true
	if p.timer == nil {
		p.timer = time.AfterFunc(p.limit, p.check)
	} else {
		p.timer.Reset(p.limit)
	}
}

func (p *progress) end(op *operation) {
	p.mu.Lock()
	op.pending = false
	p.mu.Unlock()
}

// check runs when the timer fires: it cuts what has been on its way for too
// long, and comes back for what has not. The lock keeps the cut from hitting
// what comes after the operation, such as the connection's next request.
func (p *progress) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = false
	if p.lifted {
		return
	}
	past := time.Unix(1, 0)
	rc := http.NewResponseController(p.ResponseWriter)
	var again time.Duration
	for _, op := range []*operation{&p.reading, &p.writing} {
		if !op.pending {
			continue
		}
		if left := p.limit - time.Since(op.since); left > 0 {
			again = max(again, left)
		} else if op == &p.reading {
			_ = rc.SetReadDeadline(past)
		} else {
			// Before it writes, HTTP/1 may read what the handler left of the body.
			_ = rc.SetReadDeadline(past)
			_ = rc.SetWriteDeadline(past)
		}
	}
	if again > 0 {
		p.armed = true
		p.timer.Reset(again)
	}
}

// lift ends the watching.
func (p *progress) lift() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lifted = true
	if p.timer != nil {
		p.timer.Stop()
	}
}

// finish hands what the server still has to do, sending the rest of the answer
// and, on HTTP/1, skipping the rest of the body, over to plain deadlines.
// net/http lifts them before the connection's next request; a stream takes them
// along to its end.
func (p *progress) finish() {
	p.lift()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hijacked {
		return
	}
	rc := http.NewResponseController(p.ResponseWriter)
	deadline := time.Now().Add(p.limit)
	_ = rc.SetWriteDeadline(deadline)
	if p.body != nil && !p.bodyEnd {
		_ = rc.SetReadDeadline(deadline)
	}
}

// Unwrap is for http.ResponseController.
func (p *progress) Unwrap() http.ResponseWriter { return p.ResponseWriter }

func (p *progress) WriteHeader(status int) {
	if status >= 200 && !p.wroteHeader {
		p.wroteHeader = true
		if h := p.Header(); strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") || p.call && isGRPC(h) {
			p.lift()
		}
	}
	if status < 200 { // these are sent at once
		p.begin(&p.writing)
		defer p.end(&p.writing)
	}
	p.ResponseWriter.WriteHeader(status)
}

func (p *progress) Write(b []byte) (n int, err error) {
	if !p.wroteHeader {
		p.WriteHeader(http.StatusOK)
	}
	for {
		piece := b[n:min(n+writePiece, len(b))]
		m, err := p.writePiece(piece)
		n += m
		if err != nil || n >= len(b) {
			return n, err
		}
	}
}

func (p *progress) writePiece(b []byte) (int, error) {
	p.begin(&p.writing)
	defer p.end(&p.writing)
	return p.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (p *progress) FlushError() error {
	if !p.wroteHeader {
		p.WriteHeader(http.StatusOK)
	}
	p.begin(&p.writing)
	defer p.end(&p.writing)
	return http.NewResponseController(p.ResponseWriter).Flush()
}

// Flush implements http.Flusher.
func (p *progress) Flush() { _ = p.FlushError() }

// Hijack implements http.Hijacker. What is spoken on the connection then may be
// silent for as long as it likes.
func (p *progress) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(p.ResponseWriter).Hijack()
	if err == nil {
		p.hijacked = true
		p.lift()
	}
	return conn, buffered, err
}

// progressBody is the request's body while it is watched.
type progressBody struct{ p *progress }

func (b progressBody) Read(buf []byte) (int, error) {
	b.p.begin(&b.p.reading)
	n, err := b.p.body.Read(buf)
	b.p.mu.Lock()
	defer b.p.mu.Unlock()
	b.p.reading.pending = false
	b.p.bodyEnd = b.p.bodyEnd || err != nil
	return n, err
}

func (b progressBody) Close() error { return b.p.body.Close() }

package h2

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"detour/engine/memory"
	"detour/engine/workers"
)

// Options say how a connection is served.
type Options struct {
	Handler http.Handler
	Workers *workers.Pool // run it; the owner stops them, after the Conns have ended
	Limits  Limits
	Log     *slog.Logger   // of panics in the handler, for example; nil = silent
	Memory  *memory.Budget // of large buffers, and of the window beyond its first 64 KiB; nil = no limit

	// Refused, if not nil, is told why a request or the whole connection of a
	// client was refused. The reasons are constant texts. It must not call the
	// Conn.
	Refused func(reason, client string)

	// TLS is the TLS field of requests. nil = that of the connection, if it has a
	// ConnectionState method, as *tls.Conn does.
	TLS *tls.ConnectionState

	// Paced means that the connection's own Write fails when the client takes
	// nothing for too long, and never while something moves.
	Paced bool
}

// Conn is one connection with a client.
type Conn struct {
	conn    net.Conn
	handler http.Handler
	workers *workers.Pool
	limits  Limits
	log     *slog.Logger
	memory  *memory.Budget
	refused func(reason, client string)
	tls     *tls.ConnectionState
	paced   bool
	remote  string
	base    context.Context // of all requests; set by Serve
	born    time.Time       // what now counts from

	in reader // only the reading goroutine's, except for asleep

	mu       sync.Mutex // guards the rest; never held while reading or writing the connection
	changed  sync.Cond  // some output was written, or a stream or worker ended
	streams  map[uint32]*stream
	waiting  []*stream // have a request, but no handler yet
	handlers int       // running
	working  int       // workers that run them
	waking   bool      // one of these was woken, and has not looked for a request yet
	past     history
	lastID   uint32    // the highest the client used
	idle     time.Time // since when there is no stream

	// the client's limits for us
	peerWindow int64     // of a new stream
	sendWindow int64     // of the connection
	turns      []*stream // see queueUp
	moved      time.Time // when one of turns had its turn

	// our limits for the client
	received   int64 // of bodies
	window     int64 // of the connection: it may be so far ahead of the handlers
	recvWindow int64 // what it may still send
	recvUnsent int64 // what it may send beyond that, but was not told yet

	out       []byte // frames to write
	large     bool   // memory was taken for outMemory
	flushing  bool   // somebody is writing them
	writeErr  error
	armed     time.Time // when the write deadline was set
	encoder   encoder
	date      string
	dateUntil time.Time

	earned   int64     // allowance that the guard has not collected yet
	half     time.Time // since when a header is incomplete; zero = none is
	serving  bool      // Serve was called
	draining bool      // the client was asked to go
	final    bool      // no stream above served will be served
	closing  bool      // frames of the client get no answer any more; our side ends when out is written
	linger   time.Duration
	ended    bool   // Serve is about to return
	served   uint32 // of the final GOAWAY
	watchdog *time.Timer
	watchAt  time.Time // when it looks next
	drainer  *time.Timer
}

// New makes a Conn of c, of which nothing was read yet. Nothing happens before
// Serve.
func New(c net.Conn, o Options) *Conn {
	conn := &Conn{
		born: time.Now(),
		conn: c, handler: o.Handler, workers: o.Workers, limits: o.Limits.withDefaults(), log: o.Log, memory: o.Memory, refused: o.Refused, tls: o.TLS, paced: o.Paced,
		remote:     c.RemoteAddr().String(),
		streams:    make(map[uint32]*stream),
		peerWindow: firstWindow,
		sendWindow: firstWindow,
		window:     firstWindow,
		recvWindow: firstWindow,
	}
	if conn.log == nil {
		conn.log = slog.New(slog.DiscardHandler)
	}
	if conn.refused == nil {
		conn.refused = func(string, string) {}
	}
	if s, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok && conn.tls == nil {
		state := s.ConnectionState()
		conn.tls = &state
	}
	conn.changed.L = &conn.mu
	conn.encoder.init(conn.encoderOutput)
	conn.in.init(conn)
	return conn
}

// Serve serves the connection until it ends and all its handlers have returned, and
// closes it. It returns nil if either side ended it orderly. The contexts of requests
// derive from ctx, whose end cuts the connection.
func (c *Conn) Serve(ctx context.Context) error {
	c.base = ctx
	stop := context.AfterFunc(ctx, c.Close)
	defer stop()
	c.mu.Lock()
	c.out = append(c.settings(), c.out...)
	c.serving = true
	c.idle = c.now()
	c.half = c.idle // the preface is awaited
	first := min(c.limits.HeaderTimeout, c.limits.IdleTimeout, cmp.Or(c.limits.ProgressTimeout, c.limits.IdleTimeout))
	c.watchAt = c.idle.Add(first)
	c.watchdog = time.AfterFunc(first, c.watch)
	c.mu.Unlock()

	err := c.greet()
	if err == nil {
		err = c.read()
	}
	return c.end(err)
}

func (c *Conn) settings() []byte {
	b := appendFrame(borrow(smallBuffer), frameSettings, 0, 0, 5*6)
	b = appendSetting(b, settingMaxStreams, uint32(c.limits.Streams))
	b = appendSetting(b, settingInitialWindow, uint32(c.limits.StreamWindow))
	b = appendSetting(b, settingMaxHeaderList, uint32(c.limits.HeaderBytes))
	b = appendSetting(b, settingConnectProtocol, 1)
	b = appendSetting(b, settingNoRFC7540Priorities, 1)
	return b
}

// greet sends our SETTINGS and reads the client's preface.
func (c *Conn) greet() error {
	c.mu.Lock()
	c.kick()
	c.mu.Unlock()
	got, err := c.in.peek(len(preface))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(preface)) {
		return connError{codeProtocol, "not a preface of HTTP/2"}
	}
	c.in.skip(len(preface))
	return nil
}

// read handles frames until the connection ends.
func (c *Conn) read() error {
	for {
		f, err := c.in.frame()
		if err == nil {
			err = c.handle(&f)
		}
		if err != nil {
			return err
		}
	}
}

// end says goodbye to the client, waits for the handlers, and closes.
func (c *Conn) end(err error) error {
	wrong, isWrong := errors.AsType[connError](err)
	if isWrong {
		c.refused(wrong.reason, c.remote)
		c.mu.Lock()
		c.fatal(wrong)
		c.mu.Unlock()
		c.in.drain()
	}
	c.mu.Lock()
	orderly := c.closing && !isWrong || err == io.EOF
	c.closing, c.ended = true, true
	c.watchdog.Stop()
	if c.drainer != nil {
		c.drainer.Stop()
	}
	for _, st := range c.streams {
		c.closeStream(st, endedByReset, errClientGone)
	}
	c.mu.Unlock()
	c.close(err) // also frees a flush that is stuck in writing
	c.in.release()

	c.mu.Lock()
	defer c.mu.Unlock()
	for c.working > 0 || c.flushing {
		c.changed.Wait()
	}
	giveBack(c.out)
	c.out = nil
	c.shrink()
	c.memory.Give(int(c.window - firstWindow))
	if orderly {
		return nil
	}
	if c.writeErr != nil && !isWrong {
		err = c.writeErr
	}
	return err
}

// When a connection is closed while the client still sends, TCP throws away what the
// client has not received yet. So the client gets a moment to close its side first:
// after a mistake, time to read why; after an orderly end, time to receive the last
// answer from the kernel's buffers. The reset of a stream that was answered early
// waits no longer than that either.
const (
	lingerWrong   = time.Second
	lingerOrderly = 5 * time.Second // nginx's
)

// fatal ends all streams and tells the client why. What it sends from now on is
// ignored.
func (c *Conn) fatal(e connError) {
	for _, st := range c.streams {
		c.closeStream(st, endedByUs, errClientGone)
	}
	if !c.final {
		c.served = c.lastID
	}
	c.goAway(c.served, e.code, e.reason)
	c.hangUp(lingerWrong, lingerWrong)
}

// goAway appends a GOAWAY frame.
func (c *Conn) goAway(last uint32, code errCode, reason string) {
	c.room(frameHeader + 8 + len(reason))
	c.out = appendFrame(c.out, frameGoAway, 0, 0, 8+len(reason))
	c.out = appendUint32(appendUint32(c.out, last), uint32(code))
	c.out = append(c.out, reason...)
}

// hangUp makes the connection end once all output is written, for which the client
// gets the time write, and the client has closed its side, for which it gets the time
// linger.
func (c *Conn) hangUp(write, linger time.Duration) {
	if c.closing {
		return
	}
	c.closing = true
	c.linger = linger
	if write < c.limits.WriteTimeout || !c.paced {
		_ = c.conn.SetWriteDeadline(time.Now().Add(write))
	}
	if !c.flushing && c.serving {
		c.flushing = true
		c.workers.Do((*flushing)(c)) // it ends with the farewell
	}
}

// farewell ends our side of the connection, when all is written.
func (c *Conn) farewell(linger time.Duration) {
	_ = c.conn.SetReadDeadline(time.Now().Add(linger))
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Shutdown asks the client to go. Requests on their way are served, including those
// that the client sends before it has heard of the shutdown; then the connection is
// closed and Serve returns. Shutdown does not wait. It may be called at any time and
// more than once.
func (c *Conn) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
}

// drainPing is what the client sends back when it has heard that it should go.
var drainPing = [8]byte{'g', 'o', ' ', 'a', 'w', 'a', 'y'}

// answeredPing is what the client sends back when it has had the answer on a
// stream.
func answeredPing(id uint32) [8]byte {
	return [8]byte{'d', 'o', 'n', 'e', byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}
}

// ping appends a PING frame.
func (c *Conn) ping(data [8]byte) {
	c.room(frameHeader + len(data))
	c.out = append(appendFrame(c.out, framePing, 0, 0, len(data)), data[:]...)
}

// drainPatience is how long the client may take to send drainPing back.
const drainPatience = time.Second

func (c *Conn) drain() {
	if c.draining || c.closing {
		return
	}
	c.draining = true
	c.goAway(maxWindow, codeNo, "")
	c.ping(drainPing)
	c.drainer = time.AfterFunc(drainPatience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.finalGoAway("")
	})
	c.kick()
}

// finalGoAway accepts no more streams, and ends the connection if there is none.
func (c *Conn) finalGoAway(reason string) {
	if c.final || c.closing {
		return
	}
	c.draining, c.final, c.served = true, true, c.lastID
	c.goAway(c.lastID, codeNo, reason)
	c.kick()
	if len(c.streams) == 0 {
		c.hangUp(c.limits.WriteTimeout, lingerOrderly)
	}
}

// close closes the connection. If err says that the client takes nothing any more,
// it closes what is below TLS, as a *tls.Conn would try for seconds to say goodbye.
func (c *Conn) close(err error) {
	if below, ok := c.conn.(interface{ NetConn() net.Conn }); ok && errors.Is(err, os.ErrDeadlineExceeded) {
		_ = below.NetConn().Close()
	}
	_ = c.conn.Close()
}

// Close cuts the connection. Serve returns when the handlers have. Close may be
// called at any time and more than once.
func (c *Conn) Close() { _ = c.conn.Close() }

// now is time.Now without reading the wall clock, which is most of its cost.
func (c *Conn) now() time.Time { return c.born.Add(time.Since(c.born)) }

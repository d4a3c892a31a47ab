package proxy

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"detour/engine/memory"
)

// halfClosed is how long a WebSocket may live after one side has ended: long enough for
// the rest to arrive. Other protocols may close one direction on purpose and use the
// other for hours, as "docker attach" does.
const halfClosed = 30 * time.Second

// closeTimeout is how long the ends of a WebSocket may take to answer our close frame,
// including a frame that is under way. One that is there answers within a round trip or
// two; one that is not, such as a phone in a pocket, should not hold up everything else.
const closeTimeout = 5 * time.Second

// stuckWrite is how long an end may take nothing of what it is sent before it is cut, at
// least; at most it is twice that. TCP waits as long for a peer that acknowledges
// nothing. Whoever has paused a terminal, or put down a phone, is back by then. If
// nothing is sent there is no limit.
const stuckWrite = 15 * time.Minute

// stream is the upstream's end of an upgraded connection.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// clientStream is the client's end.
type clientStream interface {
	stream            // CloseWrite fails where only the handler's return ends the stream
	CloseRead() error // makes a Read under way, and every later one, return
}

// tunnel joins the two ends of an upgraded connection.
type tunnel struct {
	client   clientStream
	upstream stream
	memory   *memory.Budget // of what it is copied through

	down, up direction   // to the client, to the upstream
	done     atomic.Bool // the upstream ended and the client was told
	failed   atomic.Bool // an end broke off or was cut
	stuck    atomic.Bool // it was cut because an end took nothing for stuckWrite

	mu    sync.Mutex  // guards what follows
	timer *time.Timer // cuts it; nil = it may take as long as it likes
	ends  time.Time   // when timer fires
	over  bool        // both directions ended
}

// newTunnel joins client and upstream. When they speak WebSocket, their frames
// are followed, so that end can say goodbye between two of them. greet must
// follow.
func newTunnel(client clientStream, upstream stream, websocket bool) *tunnel {
	t := &tunnel{client: client, upstream: upstream}
	t.down.init(t, upstream, client, websocket)
	t.up.init(t, client, upstream, websocket)
	t.down.busy = true // with the greeting
	return t
}

// greet calls tell, which tells the client that the protocol is switched. A goodbye
// waits for it, so that every client that was told of the switch gets one. run must
// follow, unless greet fails.
func (t *tunnel) greet(tell func() error) error {
	err := tell()
	t.down.greeted(err)
	if err != nil {
		t.cut()
		t.leave()
	}
	return err
}

// run copies both ways until both are done, and closes the upstream's end; the caller
// closes the client's. It reports whether they ended cleanly. The client is written to
// from the caller's goroutine, which must be its handler's, or by a goodbye.
func (t *tunnel) run() bool {
	up := make(chan struct{})
	go func() {
		defer close(up)
		t.copyUp()
	}()
	t.copyDown()
	<-up
	t.leave()
	t.upstream.Close()
	return !t.failed.Load()
}

// leave makes sure that nobody writes any more, as the handler returns.
func (t *tunnel) leave() {
	t.down.leave()
	t.up.leave()
	t.unlimit()
}

func (t *tunnel) copyDown() {
	if t.down.copy() != nil {
		t.cut()
		return
	}
	t.lastWords()
	// When both have said goodbye, the server's side closes first and the
	// client has nothing more to say (RFC 6455, 7.1.1).
	if t.client.CloseWrite() != nil || t.down.saidGoodbye() && t.up.saidGoodbye() {
		t.done.Store(true)
		t.client.CloseRead()
	}
}

func (t *tunnel) copyUp() {
	switch err := t.up.copy(); {
	case t.done.Load():
		return // reading was ended because the upstream is done
	case t.up.wasRefused():
		t.limit(halfClosed) // the upstream takes no more, but what it said last may be on its way
		return
	case err != nil:
		t.cut()
		return
	}
	t.lastWords()
	if t.upstream.CloseWrite() != nil {
		t.upstream.Close() // it has no half-close
	}
}

// lastWords limits how long what is left of a WebSocket goes on, as one end is
// gone.
func (t *tunnel) lastWords() {
	if t.down.frames != nil {
		t.limit(halfClosed)
	}
}

// limit cuts the tunnel after d, unless it is over by then or will be cut
// earlier.
func (t *tunnel) limit(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ends := time.Now().Add(d)
	switch {
	case t.over || t.timer != nil && t.ends.Before(ends):
		return
	case t.timer == nil:
		t.timer = time.AfterFunc(d, t.cut)
	default:
		t.timer.Reset(d)
	}
	t.ends = ends
}

func (t *tunnel) unlimit() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

// goodbye sends both ends of a WebSocket a close frame with code, between two frames,
// and cuts them if they do not answer in time. Until then a peer that does not read may
// block it. For other protocols it does nothing, as it cannot end them politely.
func (t *tunnel) goodbye(code int) {
	if t.down.frames == nil {
		return
	}
	t.limit(closeTimeout)
	var sending sync.WaitGroup // one end does not wait for the other
	sending.Go(func() { t.down.end(closeFrame(code, false)) })
	sending.Go(func() { t.up.end(closeFrame(code, true)) })
	sending.Wait()
}

// cut closes both ends at once, so that whoever reads or writes returns.
func (t *tunnel) cut() {
	t.failed.Store(true)
	t.client.Close()
	t.upstream.Close()
}

// direction is one direction of a tunnel. One writer at a time: the greeting,
// the copying goroutine, or the one that says goodbye.
type direction struct {
	tunnel *tunnel
	src    io.Reader
	dst    io.Writer

	mu      sync.Mutex  // guards what follows; not held while reading or writing
	idle    sync.Cond   // busy became false
	busy    bool        // somebody writes to dst
	writes  uint64      // that were begun
	seen    uint64      // writes, when look was called for
	watch   *time.Timer // calls look; nil = nothing was written yet
	watched bool        // it will
	frames  *frames     // nil = not a WebSocket
	goodbye []byte      // to be sent when the frame under way is whole
	closed  bool        // nothing more is written to dst
	refused bool        // a write to dst failed
}

func (d *direction) init(t *tunnel, src io.Reader, dst io.Writer, websocket bool) {
	d.tunnel, d.src, d.dst = t, src, dst
	d.idle.L = &d.mu
	if websocket {
		d.frames = new(frames)
	}
}

// greeted says that the greeting, which is written to dst first, is over.
func (d *direction) greeted(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	d.idle.Signal()
	if err == nil {
		_ = d.sayGoodbye() // the copying goroutine meets the broken end too
	} else {
		d.closed = true
	}
}

// copy passes src on to dst until src ends, or has answered our goodbye to it.
func (d *direction) copy() error {
	buf := copyBuffer{memory: d.tunnel.memory}
	defer buf.release()
	for {
		p := buf.next(true)
		n, err := d.src.Read(p)
		buf.got(n)
		if n > 0 {
			if over, err := d.pass(p[:n]); over || err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// pass writes p to dst, up to the place where a goodbye is due; what follows a goodbye is
// dropped (RFC 6455, 5.5.1). over reports that src has closed the WebSocket, too.
func (d *direction) pass(p []byte) (over bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.busy {
		d.idle.Wait()
	}
	if !d.closed {
		n := len(p)
		if d.frames != nil {
			n = d.frames.advance(p, d.goodbye == nil)
		}
		if err := d.write(p[:n]); err != nil {
			return false, err
		}
		p = p[n:]
		if err := d.sayGoodbye(); err != nil {
			return false, err
		}
	}
	if d.frames == nil || !d.closed {
		return false, nil
	}
	d.frames.advance(p, true)
	return d.frames.closing, nil
}

// end says goodbye with frame: now if dst is between two frames, else when the one under
// way is whole. It does nothing if src has said goodbye itself.
func (d *direction) end(frame []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.frames == nil {
		return
	}
	d.goodbye = frame
	if !d.busy {
		_ = d.sayGoodbye() // the copying goroutine meets the broken end too
	}
}

// saidGoodbye reports whether src sent a close frame.
func (d *direction) saidGoodbye() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frames != nil && d.frames.closing
}

// wasRefused reports whether a write to dst failed.
func (d *direction) wasRefused() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused
}

// sayGoodbye sends the goodbye if it is due. d.mu is held.
func (d *direction) sayGoodbye() error {
	if d.goodbye == nil || d.closed || d.frames.closing || !d.frames.between() {
		return nil
	}
	d.closed = true
	return d.write(d.goodbye)
}

// write writes without the lock, which is held before and after.
func (d *direction) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	d.busy = true
	d.writes++
	if !d.watched {
		d.watchWrites()
	}
	d.mu.Unlock()
	_, err := d.dst.Write(p)
	d.mu.Lock()
	d.busy = false
	d.refused = d.refused || err != nil
	d.idle.Signal()
	return err
}

// watchWrites has look called after stuckWrite: one timer, and no look at the
// clock, for many writes. d.mu is held.
func (d *direction) watchWrites() {
	d.watched, d.seen = true, d.writes
	if d.watch == nil {
		d.watch = time.AfterFunc(stuckWrite, d.look)
	} else {
		d.watch.Reset(stuckWrite)
	}
}

// look cuts the tunnel if the write that was the latest at the previous look is still
// under way.
func (d *direction) look() {
	d.mu.Lock()
	d.watched = false
	stuck := d.busy && d.writes == d.seen
	if d.busy && !stuck {
		d.watchWrites()
	}
	d.mu.Unlock()
	if stuck {
		d.tunnel.stuck.Store(true)
		d.tunnel.cut()
	}
}

// leave waits for a goodbye that is under way, and lets none begin any more.
func (d *direction) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for d.busy {
		d.idle.Wait()
	}
	if d.watch != nil {
		d.watch.Stop()
	}
}

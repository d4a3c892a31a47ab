package client

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"detour/engine/memory"
	"detour/engine/wire"
)

const (
	// bigPiece is how much of a body is sent at once when it comes fast: four
	// TLS records of the client's, and their framing.
	bigPiece = 64<<10 + chunkLine + chunkEnd

	// chunkLine is room for the line of a chunk that fits any piece.
	chunkLine = len("ffffff\r\n")
	// chunkEnd is room for what follows its data.
	chunkEnd = len("\r\n")
)

// upload sends a request's body from a goroutine of its own, as the upstream may answer
// or refuse meanwhile. It closes the body.
type upload struct {
	body    io.ReadCloser
	length  int64       // -1 = chunked
	trailer http.Header // filled in when body is at its end
	memory  *memory.Budget
	started bool // only the exchange's

	nc    net.Conn
	start time.Time // of the exchange
	head  []byte    // the request's, at the beginning of buf
	buf   *buffer   // what the body is read into at first
	once  sync.Once // sends head, alone or with the body's first bytes

	last    atomic.Bool           // only one more write will follow, or is under way
	whole   atomic.Bool           // all was sent
	reset   atomic.Bool           // a write met a reset; set before writing becomes 0
	writing atomic.Int64          // since when a write has been under way, in the time of now; 0 = none is
	ended   atomic.Int64          // when the sending ended, in the time of now; 0 = it has not
	cause   atomic.Pointer[error] // why the connection was closed instead
	gone    sync.WaitGroup        // until nothing is written any more
}

// prepare takes over the exchange's buffer, as an answer would overwrite the head.
func (u *upload) prepare(x *exchange) {
	u.nc, u.start = x.c.nc, x.start
	u.buf, u.head = x.buf, x.buf.b[:x.head:x.head]
	x.buf = takeBuffer()
}

// startBody starts the upload, and lets it run first: nearly always some of the body is
// there already, and leaves together with the head. Otherwise the head is sent at
// once: the upstream need not wait for the first byte of a slow body to see it.
func (x *exchange) startBody() {
	x.expecting = false
	x.body.started = true
	x.body.gone.Add(1)
	go x.body.run()
	runtime.Gosched()
	x.body.sendHead()
}

// sendHead sends the head unless that is done. If it fails, so does what follows it.
func (u *upload) sendHead() {
	u.once.Do(func() { _ = u.write(u.head) })
}

// lastWrite is how long the end of an exchange waits for the last bytes of its body.
// They have left, since the upstream has answered, but the goroutine that wrote them
// may not have run since. It is http.Transport's.
const lastWrite = 50 * time.Millisecond

// done reports whether all was sent, so that nothing more of the request will come on
// the connection.
func (u *upload) done() bool {
	if u.whole.Load() || !u.last.Load() {
		return u.whole.Load()
	}
	_ = u.nc.SetWriteDeadline(time.Now().Add(lastWrite)) // a closed connection writes nothing either
	u.gone.Wait()
	_ = u.nc.SetWriteDeadline(time.Time{})
	return u.whole.Load()
}

// failure is why the connection was closed; nil = it was not, by the upload.
func (u *upload) failure() error {
	if err := u.cause.Load(); err != nil {
		return *err
	}
	return nil
}

func (u *upload) run() {
	err := u.send()
	switch {
	case err == nil:
		u.buf.release() // not after a failure, when sendHead may still need the head
		u.whole.Store(true)
	case err != errRefused:
		cause := err // a copy, so that err itself stays off the heap
		u.cause.Store(&cause)
		_ = u.nc.Close() // whoever reads then asks for the cause
	}
	u.ended.Store(u.now())
	u.gone.Done()
	_ = u.body.Close() // last, as it may take its time
}

// errRefused says that the upstream takes no more. It may have answered.
var errRefused = errors.New("upstream takes no more")

// now is the time in ns after start, and never 0.
func (u *upload) now() int64 { return max(1, int64(time.Since(u.start))) }

// write writes to the upstream.
func (u *upload) write(p []byte) error {
	u.writing.Store(u.now())
	_, err := u.nc.Write(p)
	if errors.Is(err, syscall.ECONNRESET) {
		u.reset.Store(true)
	}
	u.writing.Store(0)
	if err != nil && fatal(err) == nil {
		return errRefused
	}
	return err
}

// wasReset reports, when a read has met the end of the connection, whether that was a
// reset. The system tells of one only once, and it may have told a write.
func (u *upload) wasReset() bool {
	_ = u.nc.SetWriteDeadline(time.Unix(1, 0)) // ends a write under way, which has nowhere to go
	for u.writing.Load() != 0 {
		runtime.Gosched()
	}
	return u.reset.Load()
}

func (u *upload) send() error {
	buf := u.buf.b
	if u.room(buf) < len(u.head) { // a long head, which must not be overwritten
		own := takeBuffer()
		defer own.release()
		buf = own.b
	}
	left := u.length
	for {
		start := u.room(buf)
		n, err := u.body.Read(buf[start : len(buf)-chunkEnd])
		if err != nil && err != io.EOF {
			return err
		}
		if u.length >= 0 {
			if left -= int64(n); left < 0 || left > 0 && err == io.EOF {
				return fmt.Errorf("ContentLength=%d with Body length %d", u.length, u.length-left)
			}
		}
		if n > 0 {
			u.last.Store(u.length >= 0 && left == 0)
			if err := u.sendPiece(buf, start, n); err != nil {
				return err
			}
		}
		switch {
		case u.length >= 0 && left == 0:
			return nil
		case err == io.EOF:
			return u.sendEnd()
		case start+n == len(buf)-chunkEnd && len(buf) < bigPiece && u.memory.Take(bigPiece):
			defer u.memory.Give(bigPiece)
			big := bigBuffers.Get().(*[bigPiece]byte)
			defer bigBuffers.Put(big)
			buf = big[:]
		}
	}
}

// bigBuffers are for bodies that come fast.
var bigBuffers = sync.Pool{New: func() any { return new([bigPiece]byte) }}

// room is where data goes in buf, so that what is sent before it fits in front.
func (u *upload) room(buf []byte) int {
	if start := len(u.head) + chunkLine; start < len(buf)/2 {
		return start
	}
	return chunkLine
}

// sendPiece sends the n bytes of data at buf[start:], with their framing, and
// with the head if nobody has sent that.
func (u *upload) sendPiece(buf []byte, start, n int) error {
	end := start + n
	from := start
	if u.length < 0 {
		var line [chunkLine]byte
		l := wire.AppendChunkLine(line[:0], n)
		from -= len(l)
		copy(buf[from:], l)
		end += copy(buf[end:], "\r\n")
	}
	with := false
	var err error
	u.once.Do(func() {
		if with = len(u.head) <= from; !with {
			err = u.write(u.head)
			return
		}
		from -= len(u.head)
		copy(buf[from:], u.head)
		err = u.write(buf[from:end])
	})
	if with || err != nil {
		return err
	}
	return u.write(buf[from:end])
}

// sendEnd sends the last chunk, and the trailers.
func (u *upload) sendEnd() error {
	end := []byte("0\r\n")
	for name, values := range u.trailer {
		if ours(name) {
			return wire.ErrSendField
		}
		for _, v := range values {
			var err error
			if end, err = wire.AppendField(end, name, v); err != nil {
				return err
			}
		}
	}
	end = append(end, "\r\n"...)
	u.last.Store(true)
	var err error
	with := false
	u.once.Do(func() {
		with = true
		err = u.write(append(u.head, end...))
	})
	if with {
		return err
	}
	return u.write(end)
}

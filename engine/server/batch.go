package server

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"

	"detour/engine/memory"
)

// batch lies below TLS. While hold is set it gathers what is written, so that the
// records of one large Write leave in one system call instead of one per 16 KiB
// (measured: this saves a quarter of what a long download costs). It also reads
// several records at once when they come fast, so that a long upload proceeds in
// larger pieces (this saves a tenth of its cost).
type batch struct {
	net.Conn
	memory *memory.Budget

	// TLS reads in one goroutine at a time.
	fast  bool              // the last read was filled
	ahead []byte            // was read, and not asked for yet
	store *[aheadBytes]byte // has ahead; nil = that is empty
	taken atomic.Bool       // of memory, for store
	eager bool              // Read does not wait
	head  *conn             // whose time for a head begins when the network is asked for more; nil = none

	mu   sync.Mutex // guards the rest, and keeps the records in order: held while writing
	hold bool
	held *[]byte // from batchPool
}

// batchBytes is what one system call sends at most: four records with their framing.
// More makes no measurable difference.
const batchBytes = 66 << 10

var batchPool = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes); return &b }}

// aheadBytes is what one system call reads at most: eight records. Half as much is
// slower, twice as much no faster.
const aheadBytes = 132 << 10

var aheadPool = sync.Pool{New: func() any { return new([aheadBytes]byte) }}

// Read reads for TLS, which asks for little more than one record at a time. Once it
// gets all that it asks for, the next records are read in one system call, and wait
// in ahead.
func (b *batch) Read(p []byte) (int, error) {
	if len(b.ahead) == 0 {
		if b.head != nil {
			b.head.startHead()
			b.head = nil
		}
		switch {
		case b.eager:
			return 0, os.ErrDeadlineExceeded // TLS can go on after it
		case !b.fast || !b.memory.Take(aheadBytes):
			n, err := b.Conn.Read(p)
			b.fast = n == len(p) && n >= recordBytes
			return n, err
		}
		b.taken.Store(true)
		b.store = aheadPool.Get().(*[aheadBytes]byte)
		n, err := b.Conn.Read(b.store[:])
		b.fast = n == aheadBytes // otherwise the next read may wait, and keep the memory meanwhile
		if n == 0 {
			b.letGo()
			return 0, err
		}
		b.ahead = b.store[:n] // an error that came with bytes will come again
	}
	n := copy(p, b.ahead)
	if b.ahead = b.ahead[n:]; len(b.ahead) == 0 {
		b.letGo()
	}
	return n, nil
}

// letGo gives the memory of ahead back.
func (b *batch) letGo() {
	aheadPool.Put(b.store)
	b.store, b.ahead = nil, nil
	b.forget()
}

// forget gives back what was taken for ahead. Nobody asks for the rest of that when
// the connection has ended.
func (b *batch) forget() {
	if b.taken.Swap(false) {
		b.memory.Give(aheadBytes)
	}
}

// Close implements net.Conn for whoever took the connection over.
func (b *batch) Close() error {
	err := b.Conn.Close()
	b.forget()
	return err
}

// more reads, from the TLS connection above, the records that are in ahead, as long
// as p has room for whole ones. An error will come again.
func (b *batch) more(above io.Reader, p []byte) (n int) {
	b.eager = true
	for len(b.ahead) > 0 && len(p)-n >= recordBytes {
		m, err := above.Read(p[n:])
		n += m
		if err != nil {
			break
		}
	}
	b.eager = false
	return n
}

func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.hold {
		return b.Conn.Write(p)
	}
	if b.held == nil {
		if !b.memory.Take(batchBytes) {
			b.hold = false
			return b.Conn.Write(p)
		}
		b.held = batchPool.Get().(*[]byte)
	}
	if len(*b.held)+len(p) > batchBytes {
		if err := b.send(); err != nil {
			return 0, err
		}
	}
	*b.held = append(*b.held, p...)
	return len(p), nil
}

// send writes what is held. mu is held.
func (b *batch) send() error {
	if b.held == nil || len(*b.held) == 0 {
		return nil
	}
	_, err := b.Conn.Write(*b.held)
	*b.held = (*b.held)[:0]
	return err
}

func (b *batch) begin() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold = true
}

func (b *batch) end() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.hold = false
	err := b.send()
	if b.held != nil {
		batchPool.Put(b.held)
		b.memory.Give(batchBytes)
		b.held = nil
	}
	return err
}

// recordBytes is what one TLS record carries at most.
const recordBytes = 16 << 10

// batched is a TLS connection whose large writes go through its batch.
type batched struct {
	*tls.Conn
	below *batch
}

func (c batched) Write(p []byte) (int, error) {
	if len(p) <= recordBytes {
		return c.Conn.Write(p)
	}
	c.below.begin()
	n, err := c.Conn.Write(p)
	if sendErr := c.below.end(); err == nil && sendErr != nil {
		return 0, sendErr
	}
	return n, err
}

// stream is c's connection, with large writes batched if it has a batch.
func (c *conn) stream() net.Conn {
	if c.batch == nil {
		return c.out
	}
	return batched{c.rwc.(*tls.Conn), c.batch}
}

// writer is what HTTP is written to.
func (c *conn) writer() io.Writer {
	if c.batch == nil {
		return c.out
	}
	return c.rwc
}

// write writes b to the client. After a failure all that follows fails, too, and
// the request under way ends.
func (c *conn) write(b []byte) error { return c.writeBoth(b, nil) }

// writeBoth is write for a head and a body, either of which may be empty, in as
// few system calls as it can.
func (c *conn) writeBoth(head, body []byte) error {
	large := c.batch != nil && len(head)+len(body) > recordBytes
	if large {
		c.batch.begin()
	}
	w := c.writer()
	var err error
	if len(head) > 0 {
		_, err = w.Write(head)
	}
	if err == nil && len(body) > 0 {
		_, err = w.Write(body)
	}
	if large {
		if sendErr := c.batch.end(); err == nil {
			err = sendErr
		}
	}
	if err != nil {
		c.lost()
	}
	return err
}

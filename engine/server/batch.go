package server

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// batch lies below TLS. While hold is on it gathers what is written, so that
// the records of one large Write leave in one system call (measured: a quarter
// of what a long download costs) instead of one each 16 KiB.
type batch struct {
	net.Conn

	mu   sync.Mutex // guards the rest, and keeps the records in order: held while writing
	hold bool
	held *[]byte // from batchPool
}

// batchBytes is what one system call sends at most: four records with their
// frames. More makes no measurable difference.
const batchBytes = 66 << 10

var batchPool = sync.Pool{New: func() any { b := make([]byte, 0, batchBytes); return &b }}

func (b *batch) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.hold {
		return b.Conn.Write(p)
	}
	if b.held == nil {
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

// stream is c's connection with its writes batched, where they can be.
func (c *conn) stream() net.Conn {
	if c.batch == nil {
		return c.out
	}
	return batched{c.rwc.(*tls.Conn), c.batch}
}

// writer is where HTTP is written.
func (c *conn) writer() io.Writer {
	if c.batch == nil {
		return c.out
	}
	return c.rwc
}

// writeBoth writes head and body, either of which may be empty, in as few system
// calls as it can.
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
	return err
}

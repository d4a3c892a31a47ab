package h2

import (
	"cmp"
	"time"
)

// Limits bounds what a client may take of a connection. Zero fields stand for those
// of DefaultLimits.
type Limits struct {
	Streams       int           // concurrent requests, and concurrent handlers
	HeaderBytes   int           // a request's decoded fields; more is answered 431
	HeaderTimeout time.Duration // for the preface, and for a header that has begun
	IdleTimeout   time.Duration // of a connection without requests

	// WriteTimeout is for the client to take the end of an answer and, unless
	// Options.Paced, each write of at most 72 KiB. 0 = ProgressTimeout, if that is
	// set.
	WriteTimeout time.Duration

	// ProgressTimeout bounds how long a Read of a body may wait for the client to
	// send something, and a Write for the client to take something. Then the Read
	// fails, or the stream is reset and the Write fails, with
	// os.ErrDeadlineExceeded. Time in which the handler neither reads nor writes
	// does not count, and as long as something moves nothing limits it. CONNECT,
	// event streams and gRPC may be silent. 0 = no limit.
	ProgressTimeout time.Duration

	StreamWindow int // bytes of one body that the client may send ahead of the handler
	ConnWindow   int // the same of all bodies together
}

// DefaultLimits are the limits of a gateway on the open Internet.
func DefaultLimits() Limits {
	return Limits{
		Streams:       250,              // net/http's and Caddy's default; browsers use up to 100
		HeaderBytes:   64 << 10,         // cookies of single sign-on come to 16 KiB; nobody honest sends four times that
		HeaderTimeout: 60 * time.Second, // a phone that loses its network in mid-request comes back within that
		IdleTimeout:   5 * time.Minute,  // longer than the 4 minutes that NATs and load balancers keep
		WriteTimeout:  60 * time.Second, // the same phone, reading; a modem's 1.2 KiB/s passes
		StreamWindow:  1 << 20,          // net/http's: 100 Mbit/s at 50 ms, as updates come in quarters
		ConnWindow:    1536 << 10,       // so that one upload that its handler leaves unread does not stop the others
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.Streams = cmp.Or(l.Streams, d.Streams)
	l.HeaderBytes = cmp.Or(l.HeaderBytes, d.HeaderBytes)
	l.HeaderTimeout = cmp.Or(l.HeaderTimeout, d.HeaderTimeout)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, d.IdleTimeout)
	l.WriteTimeout = cmp.Or(l.WriteTimeout, l.ProgressTimeout, d.WriteTimeout)
	// Before a client has read our SETTINGS, it counts on this much.
	l.StreamWindow = max(cmp.Or(l.StreamWindow, d.StreamWindow), firstWindow)
	l.ConnWindow = max(cmp.Or(l.ConnWindow, d.ConnWindow), firstWindow)
	return l
}

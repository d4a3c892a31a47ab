package accept

import (
	"context"
	"net"
	"sync"
	"time"

	"detour/engine/socket"
)

const (
	// Patience is how long a client that is still sending may take to read why it
	// was refused: longer than most round trips.
	Patience = 500 * time.Millisecond

	// silence is how long a client may send nothing and still count as sending.
	// nginx's.
	silence = 5 * time.Second
)

// Linger ends the sending side of c, and discards what the client sends until it
// ends its side, too, has sent nothing for 5 s, or limit has passed; once ctx has
// ended, it gets no more than Patience. To close at once while the client sends
// would reset the connection, and the client would lose what it has not read yet
// (RFC 9112, section 9.6). Linger does not close c.
func Linger(ctx context.Context, c net.Conn, limit time.Duration) {
	_ = socket.CloseWrite(c) // below TLS it may be the second time
	var mu sync.Mutex        // guards end, and the read deadline
	end := time.Now().Add(limit)
	wait := func(by time.Time) {
		if end.Before(by) {
			by = end
		}
		_ = c.SetReadDeadline(by)
	}
	stop := context.AfterFunc(ctx, func() {
		mu.Lock()
		defer mu.Unlock()
		if soon := time.Now().Add(Patience); soon.Before(end) {
			end = soon
		}
		wait(end)
	})
	defer stop()
	b := scratch.Get().(*[]byte)
	defer scratch.Put(b)
	for err := error(nil); err == nil; {
		mu.Lock()
		wait(time.Now().Add(silence))
		mu.Unlock()
		_, err = c.Read(*b)
	}
}

var scratch = sync.Pool{New: func() any { b := make([]byte, 8<<10); return &b }}

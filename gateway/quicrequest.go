package gateway

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"time"

	"github.com/quic-go/quic-go/http3"
)

const (
	// quicUnread is how long a client that was answered early may go on sending:
	// 20 MB from a home's line; and quicSilence how long it may pause, and so
	// how much later the end of the answer reaches one that has stopped by
	// itself. That is longer than a lost packet or two delay an upload.
	quicUnread  = 30 * time.Second
	quicSilence = 2 * time.Second
)

// likeNetHTTP makes requests and answers of http3 what they are on net/http's
// servers: the values of fields, trailers, answers to HEAD, the error of a body
// that the client gave up, and what becomes of one that nobody read to its end.
func likeNetHTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		trimValues(r.Header)
		if r.ContentLength < 0 && r.Method != http.MethodConnect {
			server := r
			r = r.WithContext(r.Context())
			if r.Trailer == nil {
				r.Trailer = make(http.Header)
			}
			r.Body = trailed{r.Body, server, r.Trailer}
		}
		var body *sized
		if r.ContentLength > 0 {
			body = &sized{r.Body, r.ContentLength}
			r.Body = body
		}
		next.ServeHTTP(w, r)
		if header := w.Header(); r.Method == http.MethodHead && header["Content-Length"] == nil {
			// http3 would say 0, which is what it has seen of the body. It is
			// the length that a GET's would have (RFC 9110, 8.6): nobody knows.
			header["Content-Length"] = nil
		}
		if body != nil && body.left > 0 {
			discard(w, body)
		}
	})
}

// sized is a body of which left bytes have not been read.
type sized struct {
	io.ReadCloser
	left int64
}

func (b *sized) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, takenBack(err)
}

// discard reads what a client that was answered early still sends of body. http3
// would tell it to stop, which is right, but Chromium then waits for ever for the
// answer that it has. A body of unknown length is not read to its end: its client
// may itself wait for the end of the answer, as in a gRPC call.
func discard(w http.ResponseWriter, body *sized) {
	rc := http.NewResponseController(w)
	if rc.Flush() != nil {
		return
	}
	buf := make([]byte, 8<<10)
	end := time.Now().Add(quicUnread)
	for err := error(nil); err == nil && body.left > 0; {
		silent := time.Now().Add(quicSilence)
		if silent.After(end) {
			silent = end
		}
		_ = rc.SetReadDeadline(silent)
		_, err = body.Read(buf)
	}
}

// trailed is a body that fills trailer at its end. http3 puts the trailers into
// its own request, as another map than handlers were given.
type trailed struct {
	io.ReadCloser
	server  *http.Request
	trailer http.Header
}

func (b trailed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		maps.Copy(b.trailer, b.server.Trailer)
	}
	return n, takenBack(err)
}

// takenBack is the error of reading a body, io.ErrUnexpectedEOF if its client gave
// it up. The context does not tell: it ends when the client refuses the answer,
// which may come a moment later, or not at all.
func takenBack(err error) error {
	if e, ok := errors.AsType[*http3.Error](err); ok && e.Remote {
		return fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	return err
}

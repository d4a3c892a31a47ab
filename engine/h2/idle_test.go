package h2

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

func TestEndIdle(t *testing.T) {
	tests := map[string]struct {
		before func(r *raw) // the client, a second before it is asked
		idle   time.Duration
		asked  bool
	}{
		"silent":         {before: func(r *raw) {}, idle: -1},
		"greeted":        {before: func(r *raw) { r.greet() }, idle: time.Second},
		"asked":          {before: func(r *raw) { r.greet(); r.done(1) }, idle: time.Second, asked: true},
		"asks":           {before: func(r *raw) { r.greet(); r.half(1) }, idle: -1},
		"sends a body":   {before: func(r *raw) { r.greet(); r.open(1) }, idle: -1},
		"half a frame":   {before: func(r *raw) { r.greet(); io.WriteString(r.conn, "\x00\x00\x10\x01\x04\x00\x00") }, idle: -1},
		"one byte":       {before: func(r *raw) { r.greet(); r.done(1); io.WriteString(r.conn, "\x00") }, idle: -1},
		"half a block":   {before: func(r *raw) { r.greet(); r.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: get()}) }, idle: -1},
		"about to leave": {before: func(r *raw) { r.greet(); r.WriteGoAway(0, noErr, nil); r.until("GOAWAY", isGoAway) }, idle: -1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := make(chan struct{})
				defer close(release)
				r, c := pipe(t, func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("X-Wait") != "" || r.Method == "POST" {
						<-release
					}
				}, Options{})
				r.buffer()
				tt.before(r)
				synctest.Wait()
				time.Sleep(time.Second)
				since, asked := c.IdleSince()
				idle := time.Since(since)
				if since.IsZero() {
					idle = -1
				}
				if idle != tt.idle || asked != tt.asked {
					t.Errorf("idle for %v, asked %v; want %v, %v", idle, asked, tt.idle, tt.asked)
				}
				if ended := c.EndIdle(); ended != (tt.idle > 0) {
					t.Errorf("EndIdle = %v", ended)
				} else if ended {
					f := r.until("GOAWAY", isGoAway).(*http2.GoAwayFrame)
					if want := c.lastID; f.ErrCode != noErr || f.LastStreamID != want {
						t.Errorf("GOAWAY = %v; want no error, stream %d", f, want)
					}
					if c.EndIdle() {
						t.Error("EndIdle = true again")
					}
				}
			})
		})
	}
}

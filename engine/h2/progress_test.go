package h2

import (
	"errors"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// stall is the ProgressTimeout of these tests.
const stall = 500 * time.Millisecond

// patient has the limit, and a handler that says how it ended.
func patient(t *testing.T, h func(w http.ResponseWriter, r *http.Request) error) (*raw, chan error) {
	ended := make(chan error, 100)
	r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) { ended <- h(w, r) }, Options{Limits: Limits{ProgressTimeout: stall}})
	return r.buffer().greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000}), ended
}

func readAll(w http.ResponseWriter, r *http.Request) error {
	_, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		w.WriteHeader(http.StatusRequestTimeout)
	}
	return err
}

// wantCut waits for the end of a handler whose client was silent since begun.
func wantCut(t *testing.T, ended chan error, begun time.Time) {
	t.Helper()
	select {
	case err := <-ended:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the handler ended with %v; want %v", err, os.ErrDeadlineExceeded)
		}
	case <-time.After(time.Hour):
		t.Fatal("not cut")
	}
	took(t, "the cut", begun, stall)
}

func TestProgressCutsSilentUpload(t *testing.T) {
	for name, block := range map[string][]byte{
		"upload":        request("POST"),
		"says gRPC":     request("POST", "content-type", "application/grpc"),
		"asks for such": request("POST", "accept", "text/event-stream"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, ended := patient(t, readAll)
				time.Sleep(3 * stall / 2) // the watchdog has looked before, and is not aligned with us
				begun := time.Now()
				r.headers(1, block, false)
				r.WriteData(1, false, []byte("begun"))
				wantCut(t, ended, begun)
				r.until("the answer", endOf(1)) // a handler may say what was wrong
				r.WritePing(true, answeredPing(1))
				r.wantReset(1, noErr)
				r.want(nothing) // the connection lives
			})
		})
	}
}

func TestProgressCutsSilentReader(t *testing.T) {
	big := make([]byte, 1<<20)
	for name, window := range map[string]uint32{"of the stream": 0, "of the connection": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, ended := patient(t, func(w http.ResponseWriter, r *http.Request) error {
					_, err := w.Write(big)
					return err
				})
				begun := time.Now()
				r.headers(1, get(), true)
				if window > 0 {
					r.WriteWindowUpdate(1, window)
				}
				wantCut(t, ended, begun)
				r.wantReset(1, http2.ErrCodeCancel)
				r.want(nothing)
			})
		})
	}
}

// What moves may take as long as it likes, each way.
func TestProgressLeavesWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := patient(t, func(w http.ResponseWriter, r *http.Request) error {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return err
			}
			_, err := w.Write(make([]byte, 1000+15))
			if err == nil {
				err = http.NewResponseController(w).Flush()
			}
			return err
		})
		r.headers(1, request("POST"), false)
		for range 15 {
			r.WriteData(1, false, []byte("x"))
			time.Sleep(stall / 8)
		}
		r.WriteData(1, true, nil)
		r.until("what the window lets through", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
		for range 15 {
			time.Sleep(stall / 8)
			r.WriteWindowUpdate(1, 1)
		}
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		r.until("the end", endOf(1))
	})
}

// Who waits for its turn does not wait for its client.
func TestProgressLeavesWhoseTurnComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := patient(t, func(w http.ResponseWriter, r *http.Request) error {
			_, err := w.Write(make([]byte, 60_000))
			return err
		})
		const streams = 10 // each has its turn later than the limit allows, as the others have theirs
		for i := range uint32(streams) {
			r.headers(2*i+1, get(), true)
			r.WriteWindowUpdate(2*i+1, 100_000)
		}
		for range streams * 60_000 / 4_000 {
			time.Sleep(stall / 8)
			r.WriteWindowUpdate(0, 4_000)
		}
		for range streams {
			if err := <-ended; err != nil {
				t.Errorf("ended with %v", err)
			}
		}
	})
}

// Nor does who waits for room in the output: what that waits for has its own limit.
func TestProgressLeavesWhoWaitsForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 1)
		r, _ := pipe(t, func(w http.ResponseWriter, r *http.Request) {
			_, err := w.Write(make([]byte, 1<<20))
			ended <- err
		}, Options{Limits: Limits{ProgressTimeout: stall, WriteTimeout: 4 * stall}})
		r.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		r.WriteWindowUpdate(0, 1<<30)
		r.headers(1, get(), true)
		time.Sleep(3 * stall) // it reads nothing meanwhile
		r.until("the end", endOf(1))
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// Nor do the ends of answers, whose handlers have returned.
func TestProgressLeavesEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const length = 4000                  // is held back until the handler returns
		const fit, wait = 65535 / length, 20 // answers in the connection's first window, and for a turn
		r, ended := patient(t, func(w http.ResponseWriter, r *http.Request) error {
			_, err := w.Write(make([]byte, length))
			return err
		})
		r.setting(http2.SettingInitialWindowSize, length)
		for i := range uint32(fit + wait) {
			r.headers(2*i+1, get(), true)
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
		for range wait { // all of them together are slower than the limit allows for one
			time.Sleep(stall / 8)
			r.WriteWindowUpdate(0, length)
		}
		for n := 0; n < fit+wait; {
			f, err := r.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			switch f := f.(type) {
			case *http2.RSTStreamFrame:
				t.Fatalf("stream %d was reset with %v, after %d answers", f.StreamID, f.ErrCode, n)
			case *http2.DataFrame:
				if f.StreamEnded() {
					n++
				}
			}
		}
	})
}

// A handler may leave a body alone for as long as it likes.
func TestProgressLeavesSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, ended := patient(t, func(w http.ResponseWriter, r *http.Request) error {
			time.Sleep(2 * stall)
			return readAll(w, r)
		})
		r.headers(1, request("POST"), false)
		r.WriteData(1, false, []byte("begun"))
		time.Sleep(2*stall + stall/2)
		r.WriteData(1, true, []byte("done"))
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// What may be silent by design is left alone, and so is a connection that is
// idle.
func TestProgressLeavesSilence(t *testing.T) {
	for name, block := range map[string][]byte{
		"extended CONNECT": request("CONNECT", ":protocol", "websocket"),
		"gRPC":             request("POST", "content-type", "application/grpc+proto"),
		"event stream":     request("POST", "accept", "text/event-stream"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, ended := patient(t, func(w http.ResponseWriter, r *http.Request) error {
					switch {
					case r.Header.Get("Accept") != "":
						w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
					case r.Method == "POST":
						w.Header().Set("Content-Type", "application/grpc")
					}
					w.WriteHeader(http.StatusOK)
					if _, err := r.Body.Read(make([]byte, 1)); err != nil {
						return err
					}
					_, err := w.Write(make([]byte, 2000)) // more than the window
					if err == nil {
						err = http.NewResponseController(w).Flush()
					}
					return err
				})
				r.headers(1, block, false)
				time.Sleep(2 * stall)
				r.WriteData(1, true, []byte("x"))
				time.Sleep(2 * stall)
				r.WriteWindowUpdate(1, 10_000)
				if err := <-ended; err != nil {
					t.Errorf("ended with %v", err)
				}
				r.until("the end", endOf(1))
				time.Sleep(2 * stall)
				r.want(nothing)
			})
		})
	}
}

package client

import (
	"context"
	"io"
	"net/http"
	"testing"
)

// maxAllocs an exchange: the http.Response, its header map, which takes two, and
// the text of its head.
const maxAllocs = 4

// engineContext is what the engine's servers give their requests.
type engineContext struct{ context.Context }

func (engineContext) AfterFunc(func()) (stop func() bool) { return stopped }

func stopped() bool { return true }

func TestAllocations(t *testing.T) {
	addr := benchUpstream(t, 0)
	rt := newClient(t, addr, nil)
	req := request(t, http.MethodGet, addr, nil).WithContext(engineContext{context.Background()})
	req.Header = benchHeader()
	buf := make([]byte, 64<<10)
	got := testing.AllocsPerRun(500, func() {
		res, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = res.Body.Read(buf)
		}
		if err != io.EOF {
			t.Fatal(err)
		}
		res.Body.Close()
	})
	if got > maxAllocs && !raceEnabled {
		t.Errorf("%v allocations an exchange; want at most %d", got, maxAllocs)
	}
	t.Logf("%v allocations an exchange", got)
}

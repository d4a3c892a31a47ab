package client

import (
	"context"
	"io"
	"net/http"
	"testing"
)

// maxAllocs an exchange, with the http.Response and its header map, and a
// context that may end. Of these context.AfterFunc and the map take most.
const maxAllocs = 10

func TestAllocations(t *testing.T) {
	addr := benchUpstream(t, 0)
	rt := newClient(t, addr, nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req := request(t, http.MethodGet, addr, nil).WithContext(ctx)
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

package client

import (
	"context"
	"io"
	"net/http"
	"testing"

	"detour/engine/lifetime"
)

// An exchange makes the http.Response, its header map, which takes two, the text
// of its head, and the slice of its values. Of one that is released only the
// last two are left to the garbage collector.
const (
	maxAllocs         = 5
	maxAllocsReleased = 2
)

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
	exchange := func() *http.Response {
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
		return res
	}
	for _, test := range []struct {
		name string
		run  func()
		want float64
	}{
		{"kept", func() { exchange() }, maxAllocs},
		{"released", func() { Release(exchange()) }, maxAllocsReleased},
	} {
		got := testing.AllocsPerRun(500, test.run)
		if got > test.want && !lifetime.Poison {
			t.Errorf("%s: %v allocations an exchange; want at most %v", test.name, got, test.want)
		}
		t.Logf("%s: %v allocations an exchange", test.name, got)
	}
}

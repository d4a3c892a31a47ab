package proxy

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"detour/engine/memory"
)

// With scarce memory bodies still arrive whole, both ways, and what was taken for
// them is given back.
func TestScarceMemory(t *testing.T) {
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<20/16)
	for name, size := range map[string]int{"none": 0, "for one or two": 130 << 10, "plenty": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			budget := memory.NewBudget(8 * int64(size))
			r := newRig(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				io.Copy(w, r.Body)
			}), rigOptions{memory: budget})
			eachProtocol(t, r.edge, func(t *testing.T, c *http.Client, url string) {
				res, err := c.Post(url+"/", "", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) {
					t.Errorf("got %d bytes, %v; want the %d that were sent", len(got), err, len(body))
				}
			})
			eventually(t, "the budget", func() bool { return budget.Take(size) })
			if budget.Take(1) {
				t.Error("more was given back than taken")
			}
		})
	}
}

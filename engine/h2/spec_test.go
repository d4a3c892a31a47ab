package h2

import (
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// h2spec, where it is installed, finds nothing.
func TestH2Spec(t *testing.T) {
	if _, err := exec.LookPath("h2spec"); err != nil {
		t.Skip("h2spec is not installed (github.com/summerwind/h2spec)")
	}
	g := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}, Options{})
	host, port, _ := net.SplitHostPort(g.addr)
	out, err := exec.CommandContext(t.Context(), "h2spec", "-t", "-k", "-h", host, "-p", port, "-o", "2", "--strict").CombinedOutput()
	text := string(out)
	if i := strings.Index(text, "Failures:"); i >= 0 {
		text = text[i:]
	} else if i := strings.LastIndex(text, "Finished in"); i >= 0 {
		text = text[i:]
	}
	t.Logf("%s", text)
	if err != nil {
		t.Errorf("h2spec: %v", err)
	}
}

package wire

import "testing"

// Parsing makes nothing when the caller brings room for the fields: they are
// parts of the head.
func TestAllocations(t *testing.T) {
	request := []byte("GET /assets/app.js?v=42 HTTP/1.1\r\nHost: blog.example.org\r\nAccept: */*\r\nCookie: session=0123456789abcdef\r\n\r\n")
	response := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1024\r\nETag: \"5f3e-61\"\r\n\r\n")
	fields := make([]Field, 0, 16)
	tests := []struct {
		name string
		want float64
		do   func() error
	}{
		{"HeadEnd", 0, func() error { _, err := HeadEnd(request, 0); return err }},
		{"ParseHead", 0, func() error { fields = fields[:0]; _, err := ParseHead(request, &fields); return err }},
		{"ParseResponse", 0, func() error { fields = fields[:0]; _, err := ParseResponse(response, &fields); return err }},
	}
	for _, tt := range tests {
		got := testing.AllocsPerRun(100, func() {
			if err := tt.do(); err != nil {
				t.Fatal(err)
			}
		})
		if got > tt.want {
			t.Errorf("%s makes %v allocations; want at most %v", tt.name, got, tt.want)
		}
	}
}

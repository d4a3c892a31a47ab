package acme

import (
	"crypto/tls"
	"fmt"
	"testing"
	"time"
)

// BenchmarkGetCertificate is what one handshake pays, with 1,000 hosts.
func BenchmarkGetCertificate(b *testing.B) {
	m, err := New(Options{Storage: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer m.Close(b.Context()) // measured, not tested
	subjects := hosts("blog.example.test", "*.wild.test")
	for i := range 1000 {
		subjects = append(subjects, Subject{Names: []string{fmt.Sprintf("h%d.example.org", i)}, CertFile: "absent"})
	}
	m.Manage(localSettings(), subjects, nil)
	orders := m.table.Load().orders
	for end := time.Now().Add(10 * time.Second); m.managed(orders["blog.example.test"]) == nil || m.managed(orders["*.wild.test"]) == nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("no certificate")
		}
	}
	for _, name := range []string{"blog.example.test", "any.wild.test", "unknown.test", "h7.example.org"} {
		b.Run(name, func(b *testing.B) {
			hello := &tls.ClientHelloInfo{ServerName: name}
			b.ReportAllocs()
			for b.Loop() {
				m.GetCertificate(hello) // measured, not tested
			}
		})
	}
}

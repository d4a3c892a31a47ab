package server

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"detour/engine/memory"
)

// recording counts the reads of a connection.
type recording struct {
	net.Conn
	src   io.Reader
	reads int
}

func (r *recording) Read(p []byte) (int, error) {
	r.reads++
	return r.src.Read(p)
}

func TestBatchReadsAhead(t *testing.T) {
	sent := make([]byte, 1<<20+123)
	_, _ = rand.Read(sent)
	below := &recording{src: bytes.NewReader(sent)}
	b := &batch{Conn: below}
	var got []byte
	p := make([]byte, recordBytes+512)
	for {
		n, err := b.Read(p)
		got = append(got, p[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, sent) {
		t.Errorf("read %d bytes that are not the %d that were sent", len(got), len(sent))
	}
	if want := len(sent)/aheadBytes + 4; below.reads > want {
		t.Errorf("%d reads for %d bytes; want at most %d", below.reads, len(sent), want)
	}
	if b.store != nil || b.fast {
		t.Error("memory for reading ahead is kept, or would be taken, when nothing comes")
	}
	b.eager = true
	if n, err := b.Read(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("eager Read = %d, %v; want a time-out", n, err)
	}
}

// What is left of a client's bytes when its connection ends takes nothing of the budget
// any more, whoever ends it.
func TestBatchGivesBackAtTheEnd(t *testing.T) {
	for _, end := range []struct {
		name string
		of   func(w http.ResponseWriter)
	}{
		{"answered early", func(w http.ResponseWriter) { w.Header().Set("Connection", "close") }},
		{"broken off", func(http.ResponseWriter) { panic(http.ErrAbortHandler) }},
		{"hijacked", func(w http.ResponseWriter) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.CopyN(io.Discard, c, 1<<20)
			_ = c.Close()
		}},
	} {
		t.Run(end.name, func(t *testing.T) {
			const size = 1 << 20
			budget := memory.NewBudget(8 * size)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			s := New(Options{TLS: &tls.Config{Certificates: []tls.Certificate{ownCertificate(t)}}, Memory: budget, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.CopyN(io.Discard, r.Body, 1<<20)
				end.of(w)
			})})
			go func() { _ = s.Serve(l) }()
			defer s.Close()
			for range 8 { // one may end with nothing left
				c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n")
				_, _ = c.Write(make([]byte, 8<<20)) // it may fail
				_ = c.Close()
			}
			for deadline := time.Now().Add(10 * time.Second); !budget.Take(size); time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatal("something of the budget was not given back")
				}
			}
			if budget.Take(1) {
				t.Error("more was given back than taken")
			}
		})
	}
}

// more gives whole records that are there, does not wait for the rest of the one
// that is not, and loses nothing of that.
func TestBatchMoreDoesNotWait(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	below := &batch{Conn: server}
	secure := tls.Server(below, &tls.Config{
		Certificates:           []tls.Certificate{ownCertificate(t)},
		SessionTicketsDisabled: true, // nobody would read them from the pipe
	})
	sender := tls.Client(client, &tls.Config{InsecureSkipVerify: true, DynamicRecordSizingDisabled: true})
	sent := make([]byte, 4*recordBytes)
	_, _ = rand.Read(sent)

	// What the client writes after the handshake is fed in two pieces: the second begins inside a record.
	handshake := make(chan error, 1)
	go func() { handshake <- sender.Handshake() }()
	if err := secure.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-handshake; err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _ = sender.Write(sent)
		client.Close()
	}()
	records, err := io.ReadAll(server)
	if err != nil {
		t.Fatal(err)
	}
	cut := len(records) - 1000
	later := &recording{src: bytes.NewReader(records[cut:])}
	below.Conn = later
	below.store = new([aheadBytes]byte)
	below.ahead = append(below.store[:0], records[:cut]...)

	got := make([]byte, len(sent)+recordBytes)
	n, err := secure.Read(got)
	if err != nil {
		t.Fatal(err)
	}
	n += below.more(secure, got[n:])
	if whole := n / recordBytes * recordBytes; n != whole || n == 0 || n >= len(sent) {
		t.Errorf("more read up to byte %d; want the whole records there", n)
	}
	if later.reads != 0 {
		t.Errorf("more read %d times from the connection", later.reads)
	}
	m, err := io.ReadFull(secure, got[n:len(sent)])
	if n += m; err != nil || !bytes.Equal(got[:n], sent) {
		t.Errorf("read %d bytes, %v; want the %d that were sent", n, err, len(sent))
	}
}

func ownCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{cert}, PrivateKey: key}
}

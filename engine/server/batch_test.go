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
	"os"
	"testing"
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

// more gives whole records that are there, does not wait for the rest of the one
// that is not, and loses nothing of that.
func TestBatchMoreDoesNotWait(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	defer server.Close()
	below := &batch{Conn: server}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Server(below, &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}},
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

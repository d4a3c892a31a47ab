//go:build linux

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// lab is what all measurements share: the backend, the certificate, the CPUs.
type lab struct {
	dir         string
	cpus        cpuSplit
	duration    time.Duration
	keep        bool // the directories of trials
	backend     *http.Server
	backendAddr string
	roots       *x509.CertPool
	cert, key   string // PEM files
	trials      int

	// How long was measured, and how much of it somebody else had the proxy's CPU.
	window, foreign time.Duration
}

func newLab(dir string, cpus cpuSplit, o options) (*lab, error) {
	l := &lab{
		dir: dir, cpus: cpus, duration: o.duration, keep: o.keep, roots: x509.NewCertPool(),
		cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"),
	}
	if err := l.makeCertificate(); err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the backend: %w", err)
	}
	l.backendAddr = ln.Addr().String()
	l.backend = serveBackend(ln, newBackend())
	return l, nil
}

func (l *lab) close() { _ = l.backend.Close() }

// foreignShare is the part of the measured time in which somebody else than the
// proxy under measurement had its CPU.
func (l *lab) foreignShare() float64 {
	if l.window == 0 {
		return 0
	}
	return float64(l.foreign) / float64(l.window)
}

// makeCertificate writes one self-signed P-256 certificate for every host.
func (l *lab) makeCertificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{zone, "*." + zone},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(30 * 24 * time.Hour), // far enough that nobody thinks of renewing it
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	l.roots.AddCert(leaf)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	return cmp.Or(os.WriteFile(l.cert, certPEM, 0o644), os.WriteFile(l.key, keyPEM, 0o600))
}

// trial is one proxy started for one measurement.
type trial struct {
	*lab
	ctx        context.Context
	contestant contestant
	process    *process
	site       site
	target     target
	startup    time.Duration // from exec to the first answer
	requests   int64         // answered so far; each owes the access log a line
}

// measure starts c, lets s measure it, and stops it. Notes are what a reader
// of the figures has to know.
func (l *lab) measure(ctx context.Context, c contestant, s scenario) (figures []float64, notes []string, err error) {
	// Long enough for the slowest, short enough to notice that something hangs.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute+5*l.duration)
	defer cancel()
	if err := l.claimMemory(); err != nil {
		return nil, nil, err
	}
	t, err := l.start(ctx, c, s.hosts)
	if err != nil {
		return nil, nil, fmt.Errorf("start: %w", err)
	}
	figures, err = s.measure(t)
	t.process.stop()
	if err != nil {
		return nil, nil, errors.Join(err, t.complaints())
	}
	lines, err := countLines(filepath.Join(t.site.Dir, "log"))
	if err != nil {
		return nil, nil, err
	}
	if lines < t.requests {
		notes = append(notes, fmt.Sprintf("%s, %s: the access log lacks lines of some requests", s.name, c.name))
	}
	if l.keep {
		return figures, notes, nil
	}
	return figures, notes, os.RemoveAll(t.site.Dir)
}

// claimMemory gets the memory that the access log of a measurement will need
// from the host of a virtual machine, by using it up and letting go of it. The
// host may have taken it away while nobody used it, and then the first write to
// a page takes microseconds: not the proxy's doing, but it meets most who writes
// the longest lines. A machine that has run for a day has no such memory left.
func (l *lab) claimMemory() error {
	const most = 128 << 20 // bytes a second that the fastest of them logs
	f, err := os.Create(filepath.Join(l.dir, "memory"))
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 1<<20)
	for left := int64(most * l.duration.Seconds()); left > 0; left -= int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			return err
		}
	}
	return nil
}

// start runs c with so many hosts and waits until it answers.
func (l *lab) start(ctx context.Context, c contestant, hosts int) (*trial, error) {
	l.trials++
	dir := filepath.Join(l.dir, strconv.Itoa(l.trials))
	if err := os.MkdirAll(filepath.Join(dir, "log"), 0o755); err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	t := &trial{
		lab: l, ctx: ctx, contestant: c,
		site:   site{Dir: dir, Addr: addr, Backend: l.backendAddr, Cert: l.cert, Key: l.key, Hosts: hostNames(hosts)},
		target: target{addr: addr, roots: l.roots},
	}
	args, err := c.configure(t.site)
	if err != nil {
		return nil, err
	}
	if err := t.exec(args); err != nil {
		return nil, err
	}
	began := time.Now()
	err = t.process.waitFor(ctx, func() error { return t.visit(offlineHost, getRedirect) })
	t.startup = time.Since(began)
	if err == nil {
		err = t.visit(t.site.Hosts[0], getSmall)
	}
	if err != nil {
		t.process.stop()
		return nil, errors.Join(err, t.complaints())
	}
	return t, nil
}

// exec starts the process: one thread of Go code at a time, its home in the
// trial's directory, stdout where HAProxy's log belongs.
func (t *trial) exec(args []string) error {
	stdout, err := os.Create(filepath.Join(t.site.Dir, "log", "stdout.log"))
	if err != nil {
		return err
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(t.site.Dir, "stderr"))
	if err != nil {
		return err
	}
	defer stderr.Close()
	cmd := exec.Command(t.contestant.binary, args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Dir = t.site.Dir
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "GOMAXPROCS=1",
		"HOME=" + t.site.Dir, "XDG_DATA_HOME=" + t.site.Dir, "XDG_CONFIG_HOME=" + t.site.Dir,
	}
	t.process, err = startProcess(cmd, t.cpus)
	return err
}

// visit makes one request on a connection of its own.
func (t *trial) visit(host string, want request) error {
	c, err := dialH1(t.ctx, t.target, host, want)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil { // a proxy on loopback answers in milliseconds
		return err
	}
	var n tally
	if err := c.run(once()(0), &n); err != nil {
		return err
	}
	t.requests++
	return nil
}

// complaints is the end of what the proxy said on stderr, as an error.
func (t *trial) complaints() error {
	data, err := os.ReadFile(filepath.Join(t.site.Dir, "stderr"))
	if err != nil || len(data) == 0 {
		return err
	}
	return fmt.Errorf("%s said: %s", t.contestant.name, bytes.TrimSpace(data[max(0, len(data)-2000):]))
}

// hostNames are n names below the zone; one is just onlineHost.
func hostNames(n int) []string {
	if n <= 1 {
		return []string{onlineHost}
	}
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("h%04d.%s", i, zone)
	}
	return names
}

// freeAddr is a loopback address whose port nobody uses now.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// countLines counts the lines of all files in dir.
func countLines(dir string) (int64, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	var lines int64
	for _, file := range files {
		n, err := countFileLines(filepath.Join(dir, file.Name()))
		if err != nil {
			return 0, err
		}
		lines += n
	}
	return lines, nil
}

func countFileLines(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	buf := make([]byte, 1<<20)
	var lines int64
	for {
		n, err := r.Read(buf)
		lines += int64(bytes.Count(buf[:n], []byte("\n")))
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

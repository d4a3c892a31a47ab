package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	rootLifetime         = 10 * 365 * 24 * time.Hour // installed by hand on phones: nobody does that often
	rootWarning          = 30 * 24 * time.Hour       // a root with less left is replaced at start, before browsers notice
	intermediateLifetime = 7 * 24 * time.Hour        // its key never leaves memory, so it need not live long
	backdate             = time.Minute               // for visitors whose clock is a little behind
	rootBackdate         = 24 * time.Hour            // for a machine that makes it before it has found the time: its clock may run in another zone
)

// The root's place in the storage is Caddy's own for its `tls internal`, so
// devices that trust an existing Caddy trust its successor too.
const (
	rootCertKey = "pki/authorities/local/root.crt"
	rootKeyKey  = "pki/authorities/local/root.key"
	rootLock    = "local_ca"
)

// authority is the local CA. The root is kept in the storage; the intermediate
// is made anew at each start and whenever the permitted names change, so its key
// is never on disk. It is a certmagic.Issuer.
type authority struct {
	leaf time.Duration // lifetime of what it signs
	now  func() time.Time

	mu           sync.Mutex // guards all below; signing is the slowest thing done under it
	root         signer     // zero before open
	permitted    constraints
	intermediate signer
}

// signer is a CA certificate with its key.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(leaf time.Duration) *authority { return &authority{leaf: leaf, now: time.Now} }

// open loads the root, or makes and stores it. When the storage does not work it
// makes one in memory and returns the error; calling open again later stores
// that one, unless another root has appeared there meanwhile, which then wins.
func (a *authority) open(ctx context.Context, s certmagic.Storage) error {
	stored, err := a.loadRoot(ctx, s)
	if errors.Is(err, fs.ErrNotExist) {
		stored, err = a.storeRoot(ctx, s)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		if a.root.cert == nil {
			a.root, _ = newRoot(a.now())
		}
		return fmt.Errorf("open the local CA: %w", err)
	}
	if a.root.cert == nil || !a.root.cert.Equal(stored.cert) {
		a.root, a.intermediate = stored, signer{}
	}
	return nil
}

// storeRoot stores the root that is in memory, or a new one. The key is written
// first: the certificate's presence means that both are there.
func (a *authority) storeRoot(ctx context.Context, s certmagic.Storage) (signer, error) {
	if err := s.Lock(ctx, rootLock); err != nil {
		return signer{}, err
	}
	defer s.Unlock(context.WithoutCancel(ctx), rootLock) // a lock left behind goes stale in seconds
	if stored, err := a.loadRoot(ctx, s); !errors.Is(err, fs.ErrNotExist) {
		return stored, err // another process was faster
	}
	a.mu.Lock()
	root := a.root
	a.mu.Unlock()
	if root.cert == nil || a.dying(root.cert) {
		var err error
		if root, err = newRoot(a.now()); err != nil {
			return signer{}, err
		}
	}
	key, err := certmagic.PEMEncodePrivateKey(root.key)
	if err != nil {
		return signer{}, err
	}
	if err := s.Store(ctx, rootKeyKey, key); err != nil {
		return signer{}, err
	}
	return root, s.Store(ctx, rootCertKey, certPEM(root.cert.Raw))
}

// loadRoot returns fs.ErrNotExist when there is no root, or one at its end.
func (a *authority) loadRoot(ctx context.Context, s certmagic.Storage) (signer, error) {
	certBytes, err := s.Load(ctx, rootCertKey)
	if err != nil {
		return signer{}, err
	}
	keyBytes, err := s.Load(ctx, rootKeyKey)
	if err != nil {
		// Not the error itself: a lone certificate must not look like "none yet"
		// and be replaced behind the operator's back.
		return signer{}, fmt.Errorf("%s is there but its key is not readable (%v); restore %s, or remove the certificate to start anew", rootCertKey, err, rootKeyKey)
	}
	root, err := parseRoot(certBytes, keyBytes)
	if err != nil {
		return signer{}, fmt.Errorf("%w; restore %s and %s, or remove both to start anew", err, rootCertKey, rootKeyKey)
	}
	if a.dying(root.cert) {
		return signer{}, fs.ErrNotExist
	}
	return root, nil
}

func parseRoot(certBytes, keyBytes []byte) (signer, error) {
	key, err := certmagic.PEMDecodePrivateKey(keyBytes)
	if err != nil {
		return signer{}, fmt.Errorf("%s: %w", rootKeyKey, err)
	}
	block, _ := pem.Decode(certBytes)
	if block == nil {
		return signer{}, fmt.Errorf("%s: no PEM certificate", rootCertKey)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return signer{}, fmt.Errorf("%s: %w", rootCertKey, err)
	}
	if pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(key.Public()) {
		return signer{}, fmt.Errorf("%s and %s do not belong together", rootCertKey, rootKeyKey)
	}
	return signer{cert, key}, nil
}

func (a *authority) dying(root *x509.Certificate) bool {
	return root.NotAfter.Sub(a.now()) < rootWarning
}

// alive reports whether a certificate of ours is valid and has time left. Its
// beginning may be ahead, where the clock was when it was made.
func (a *authority) alive(c *x509.Certificate, left time.Duration) bool {
	now := a.now()
	return !now.Before(c.NotBefore) && c.NotAfter.Sub(now) > left
}

func newRoot(now time.Time) (signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signer{}, err
	}
	return sign(&x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("detour local CA %d", now.Year())},
		NotBefore:             now.Add(-rootBackdate),
		NotAfter:              now.Add(rootLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            1,
	}, key, signer{})
}

// sign makes the certificate of key by parent; a zero parent means self-signed.
func sign(template *x509.Certificate, key crypto.Signer, parent signer) (signer, error) {
	if parent.cert == nil {
		parent = signer{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		return signer{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return signer{cert, key}, err
}

// permit restricts what the intermediate may sign to names.
func (a *authority) permit(names []string) {
	c := constrain(names)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !c.equal(a.permitted) {
		a.permitted, a.intermediate = c, signer{}
	}
}

// issuing returns the intermediate, made anew when it would not outlive a leaf.
func (a *authority) issuing() (signer, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if a.root.cert == nil {
		return signer{}, errors.New("the local CA is not open")
	}
	if a.intermediate.cert != nil && a.alive(a.intermediate.cert, 2*a.leaf) {
		return a.intermediate, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signer{}, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "detour local CA, intermediate"},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(intermediateLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	a.permitted.apply(template)
	s, err := sign(template, key, a.root)
	if err == nil {
		a.intermediate = s
	}
	return s, err
}

// issue signs a leaf for pub and returns it with its chain, in DER.
func (a *authority) issue(pub crypto.PublicKey, names []string, ips []net.IP) ([][]byte, error) {
	parent, err := a.issuing()
	if err != nil {
		return nil, err
	}
	now := a.now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		NotBefore:   now.Add(-min(backdate, a.leaf)),
		NotAfter:    now.Add(a.leaf),
		DNSNames:    names,
		IPAddresses: ips,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, parent.cert, pub, parent.key)
	if err != nil {
		return nil, err
	}
	return [][]byte{der, parent.cert.Raw}, nil
}

// standIn makes a certificate for host that lives in memory only.
func (a *authority) standIn(host string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	var chain [][]byte
	if ip := net.ParseIP(host); ip != nil {
		chain, err = a.issue(key.Public(), nil, []net.IP{ip})
	} else {
		chain, err = a.issue(key.Public(), []string{host}, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("local certificate for %s: %w", host, err)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// Issue implements certmagic.Issuer.
func (a *authority) Issue(_ context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate request: %w", err)
	}
	chain, err := a.issue(csr.PublicKey, csr.DNSNames, csr.IPAddresses)
	if err != nil {
		return nil, fmt.Errorf("local certificate for %s: %w", strings.Join(csr.DNSNames, ", "), err)
	}
	var out bytes.Buffer
	for _, der := range chain {
		out.Write(certPEM(der))
	}
	return &certmagic.IssuedCertificate{Certificate: out.Bytes()}, nil
}

// IssuerKey implements certmagic.Issuer: the folder of the local CA's
// certificates in the storage.
func (a *authority) IssuerKey() string { return Local }

func (a *authority) rootPEM() ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.root.cert == nil {
		return nil, errors.New("the local CA is not open")
	}
	return certPEM(a.root.cert.Raw), nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

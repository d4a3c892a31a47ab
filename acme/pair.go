package acme

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// pairFiles are the PEM files of a certificate of one's own.
type pairFiles struct{ cert, key string }

// pair is a certificate of one's own. A bad new pair never replaces a good one.
type pair struct {
	files pairFiles
	cert  atomic.Pointer[tls.Certificate] // nil until files were good once

	mu      sync.Mutex // guards all below
	stamp   stamp      // of the files as last read
	problem string     // why they could not be used; "" = they could
}

// stamp tells two versions of the files apart without reading them.
type stamp struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

func (f pairFiles) stamp() stamp {
	var s stamp
	if info, err := os.Stat(f.cert); err == nil {
		s.certTime, s.certSize = info.ModTime(), info.Size()
	}
	if info, err := os.Stat(f.key); err == nil {
		s.keyTime, s.keySize = info.ModTime(), info.Size()
	}
	return s
}

// refresh reads the files again if they look different. Two stat calls when
// they do not.
func (p *pair) refresh(log *slog.Logger) {
	now := p.files.stamp()
	p.mu.Lock()
	same := now == p.stamp
	p.mu.Unlock()
	if !same {
		p.reload(log)
	}
}

// reload reads the files and says in the log what became of it.
func (p *pair) reload(log *slog.Logger) {
	stamp := p.files.stamp() // before reading: a change in between is seen next time
	cert, err := tls.LoadX509KeyPair(p.files.cert, p.files.key)
	problem := ""
	if err != nil {
		problem = fmt.Sprintf("certificate %s with key %s: %v", p.files.cert, p.files.key, err)
	}
	p.mu.Lock()
	first, repeated := p.cert.Load() == nil, problem != "" && problem == p.problem
	p.stamp, p.problem = stamp, problem
	p.mu.Unlock()
	if err == nil {
		p.cert.Store(&cert)
		if !first {
			log.Info("own certificate replaced", "cert", p.files.cert, "not_after", cert.Leaf.NotAfter)
		}
		return
	}
	if repeated {
		return
	}
	if first {
		log.Error("own certificate not usable, serving a local one", "cert", p.files.cert, "key", p.files.key, "error", err)
	} else {
		log.Error("new own certificate not usable, keeping the old one", "cert", p.files.cert, "key", p.files.key, "error", err)
	}
}

// trouble is why the files as they are now cannot be used; "" = they can.
func (p *pair) trouble() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.problem
}

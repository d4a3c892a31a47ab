package gateway

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"detour/config"

	"github.com/google/renameio/v2"
)

// bypassKeySize is the size of the hash that signs the links.
const bypassKeySize = 32

// bypassKey is what bypass links and cookies are signed with. It is kept beside the
// certificates, so that a restart does not invalidate them; the key of QUIC's
// stateless resets is derived from it, too. If it cannot be kept, it is made for this
// run only.
func (g *Gateway) bypassKey(storage string) []byte {
	path := filepath.Join(storage, "bypass.key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) == bypassKeySize {
		return key
	}
	key = make([]byte, bypassKeySize)
	rand.Read(key) // never fails
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(os.MkdirAll(storage, 0o700), renameio.WriteFile(path, key, 0o600))
	}
	if err != nil {
		g.log.Warn("the key of bypass links cannot be kept, they end with this run", "error", err)
	}
	return key
}

// LongestBypass bounds a link: it is for the test before opening, not for a
// visitor who should be let in for good.
const LongestBypass = 7 * 24 * time.Hour

// Bypass makes a link by which one person reaches the upstream of an offline
// host for d. host is a key, a name, an alias, or a name below a wildcard; the
// link is for that name alone.
func (g *Gateway) Bypass(host string, d time.Duration) (string, error) {
	if d <= 0 || d > LongestBypass {
		return "", fmt.Errorf("a bypass lasts for more than nothing and at most %s; %s is not possible", LongestBypass, d)
	}
	hosts := g.current.Load().config.Hosts
	if i := slices.IndexFunc(hosts, func(h config.Host) bool { return h.Key == host }); i >= 0 {
		host = hosts[i].Name
	}
	return g.handler.MintBypass(host, time.Now().Add(d))
}

package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// maxFile is far above any real configuration (100,000 hosts are about 10 MB)
// and far below what would hurt a router, should the path name a device.
const maxFile = 32 << 20

// Load reads and validates a configuration, including the files it names
// (certificates, tokens, roots). It changes nothing and dials nobody. The error
// is Problems when the content is wrong.
func Load(path string) (*Config, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	c, d := parse(path, data)
	d.checkFiles(c)
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// Parse validates a configuration's bytes. It touches no file and no network, so
// whoever flips a host need not be able to read the gateway's secrets. name is
// used in messages, and relative paths are taken from its directory. The error is
// Problems.
func Parse(name string, data []byte) (*Config, error) {
	c, d := parse(name, data)
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

func parse(name string, data []byte) (*Config, *decoder) {
	d := &decoder{document: parseDocument(name, data)}
	return d.decode(), d
}

// Read returns the bytes of a configuration, unless they are too many for one.
func Read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	return readFrom(f)
}

func readFrom(f *os.File) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read configuration: %s is larger than %d MiB", f.Name(), maxFile>>20)
	}
	return data, nil
}

// Find returns the configuration to use: flag if it is not empty, else
// ./proxy.toml, else /etc/detour/proxy.toml, whichever exists.
func Find(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	return find("proxy.toml", "/etc/detour/proxy.toml")
}

func find(paths ...string) (string, error) {
	for _, path := range paths {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path, nil // one that cannot be read must not be passed over
		}
	}
	return "", fmt.Errorf("no configuration: there is neither %s; name one with --config", strings.Join(paths, " nor "))
}

// file is a path whose file Load looks at.
func file(to *string, look func(path string) error) value {
	parse := optional(nonEmptyPath)
	return value{"path", func(d *decoder, n *node) {
		if !d.want(n, "a path in quotes", kindText) {
			return
		}
		path, err := parse(n.text)
		if err != nil {
			d.fail(n, err)
			return
		}
		*to = path
		if path != "" {
			d.files = append(d.files, fileCheck{n, path, look})
		}
	}}
}

// checkFiles looks at the files the configuration names. The messages do not
// repeat the paths: someone may have put a token where its file's path belongs.
func (d *decoder) checkFiles(c *Config) {
	bad := map[string]bool{}
	for _, f := range d.files {
		if err := f.look(f.path); err != nil {
			d.fail(f.node, err)
			bad[f.path] = true
		}
	}
	for _, h := range c.Hosts {
		if h.CertFile == "" || h.KeyFile == "" || bad[h.CertFile] || bad[h.KeyFile] {
			continue
		}
		if _, err := tls.LoadX509KeyPair(h.CertFile, h.KeyFile); err != nil {
			n := d.root.member("hosts", h.Key, "cert")
			d.fail(n, errors.New("and key are no pair: "+strings.TrimPrefix(err.Error(), "tls: ")))
		}
	}
}

// secretFile is a file that must be readable and hold something.
func secretFile(path string) error {
	_, err := contents(path)
	return err
}

// certificateFile is a file with certificates in PEM.
func certificateFile(path string) error {
	data, err := contents(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(data) {
		err = errors.New("the file holds no certificate in PEM")
	}
	return err
}

func contents(path string) ([]byte, error) {
	const enough = 1 << 20 // a chain or a bundle of roots; the system's own has 0.25 MiB
	f, err := os.Open(path)
	if err != nil {
		return nil, withoutPath(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, enough))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case strings.TrimSpace(string(data)) == "":
		return nil, errors.New("the file is empty")
	}
	return data, nil
}

// withoutPath says why a file cannot be read, but not which.
func withoutPath(err error) error {
	cause, ok := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errors.New("there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return errors.New("the file cannot be read: permission denied; it must be readable for the gateway's user")
	case ok:
		return fmt.Errorf("the file cannot be read: %w", cause)
	}
	return errors.New("the file cannot be read")
}

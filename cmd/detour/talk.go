package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"detour/config"
	"detour/control"
)

// socketLine finds control.socket in a file that may be no valid TOML.
var socketLine = regexp.MustCompile(`(?m)^[^#\n]*\bsocket\s*=\s*["']([^"'\n]+)["']`)

// parse reads a configuration without looking at the files it names: a member
// of the gateway's group may flip hosts without being able to read the token.
// Its bytes are returned whether they are valid or not.
func parse(path string) (*config.Config, []byte, error) {
	data, err := config.Read(path)
	if err != nil {
		return nil, nil, err
	}
	cfg, err := config.Parse(path, data)
	return cfg, data, err
}

// client is for the gateway of the configuration at path. The file may have
// mistakes by now: after a refused reload is just when an operator asks.
func client(path string) (*control.Client, error) {
	cfg, data, err := parse(path)
	var problems config.Problems
	switch {
	case err == nil:
		return control.NewClient(cfg.Control.Socket), nil
	case !errors.As(err, &problems):
		return nil, err
	}
	socket := defaultSocket()
	if found := socketLine.FindSubmatch(data); found != nil {
		socket = string(found[1])
	}
	if !filepath.IsAbs(socket) {
		socket = filepath.Join(filepath.Dir(path), socket) // as config reads it
	}
	return control.NewClient(socket), nil
}

func defaultSocket() string {
	for _, key := range config.Reference() {
		if key.Name == "control.socket" {
			return strings.Trim(key.Default, `"`)
		}
	}
	return ""
}

// sameFile reports whether two paths lead to one file; paths that cannot be
// looked at are compared as text.
func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX == nil && errY == nil {
		return os.SameFile(x, y)
	}
	a, _ = filepath.Abs(a) // only fails without a working directory
	return a == b
}

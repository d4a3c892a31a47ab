package acme

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// TokenSource returns a function that reads Cloudflare's API token: from file,
// or when file is "" from CLOUDFLARE_API_TOKEN, CF_API_TOKEN, or systemd's
// credential cloudflare_token, in this order. The places are read anew at each
// call. White space around the token is dropped; what cannot be a token is an
// error, which names the place and never the value.
func TokenSource(file string) func() (string, error) {
	return func() (string, error) {
		s, place, err := secret(file, []string{"CLOUDFLARE_API_TOKEN", "CF_API_TOKEN"}, "cloudflare_token")
		if err != nil {
			return "", &tokenError{fmt.Errorf("no Cloudflare token: %w", err)}
		}
		for _, r := range s {
			if r <= ' ' || r > '~' || strings.ContainsRune(`"'{}$`, r) {
				return "", &tokenError{fmt.Errorf("the Cloudflare token in %s holds spaces, quotes or braces: put the bare token there", place)}
			}
		}
		return s, nil
	}
}

// tokenError says why there is no token.
type tokenError struct{ error }

func (e *tokenError) Unwrap() error { return e.error }

// eabKey reads the base64url key of an external account binding.
func eabKey(file string) (string, error) {
	key, _, err := secret(file, []string{"ACME_EAB_KEY"}, "acme_eab_key")
	if err != nil {
		return "", fmt.Errorf("no key for the external account binding: %w", err)
	}
	return key, nil
}

// secret reads a secret from file, or when file is "" from the first of the
// environment variables that is set, or from systemd's credential. It also
// returns the name of the place.
func secret(file string, variables []string, credential string) (value, place string, err error) {
	if file != "" {
		return secretFile(file)
	}
	for _, name := range variables {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			return value, name, nil
		}
	}
	looked := strings.Join(variables, ", ")
	dir := os.Getenv("CREDENTIALS_DIRECTORY") // systemd.exec(5), LoadCredential=
	if dir == "" {
		return "", "", fmt.Errorf("looked at %s and at systemd's credential %s: none is set", looked, credential)
	}
	value, place, err = secretFile(filepath.Join(dir, credential))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("looked at %s and at the credential %s in %s: none is there", looked, credential, dir)
	}
	return value, place, err
}

func secretFile(file string) (value, place string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", "", err // it names the file
	}
	value = strings.TrimSpace(string(data))
	if value == "" {
		return "", "", fmt.Errorf("%s is empty", file)
	}
	return value, file, nil
}

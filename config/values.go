package config

import (
	"errors"
	"fmt"
	"math"
	"net/textproto"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// A value is a type of the file bound to the place of a Config it goes to.
type value struct {
	typ string
	set func(d *decoder, n *node)
}

// text is a value written as text; parse checks and converts it. The error of
// parse says what is wrong and what would be right.
func text[T any](typ string, to *T, parse func(string) (T, error)) value {
	return value{typ, func(d *decoder, n *node) {
		if !d.want(n, withArticle(typ)+" in quotes", kindText) {
			return
		}
		v, err := parse(n.text)
		if err != nil {
			d.fail(n, err)
			return
		}
		*to = v
	}}
}

func withArticle(typ string) string {
	switch {
	case strings.HasPrefix(typ, `"`):
		return typ
	case strings.ContainsAny(typ[:1], "aeiou"):
		return "an " + typ
	}
	return "a " + typ
}

// optional lets a text be empty, which leaves the zero value.
func optional[T any](parse func(string) (T, error)) func(string) (T, error) {
	return func(s string) (T, error) {
		if s == "" {
			var zero T
			return zero, nil
		}
		return parse(s)
	}
}

func boolean(to *bool) value {
	return value{"boolean", func(d *decoder, n *node) {
		if d.want(n, "true or false", kindBool) {
			*to = n.text == "true"
		}
	}}
}

func integer(typ string, to *int, low, high int64) value {
	return value{typ, func(d *decoder, n *node) {
		if !d.want(n, "a whole number", kindNumber) {
			return
		}
		v, err := strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 64)
		if err != nil || v < low || v > high {
			d.fail(n, fmt.Errorf("must be from %d to %d", low, high))
			return
		}
		*to = int(v)
	}}
}

func choice[T ~string](to *T, values ...T) value {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(string(v))
	}
	words := strings.Join(quoted, " or ")
	return text(words, to, func(s string) (T, error) {
		if slices.Contains(values, T(s)) {
			return T(s), nil
		}
		return "", fmt.Errorf("is %s; must be %s", quote(s), words)
	})
}

// list is a list of values written as texts.
func list[T any](typ string, to *[]T, parse func(string) (T, error)) value {
	return value{"list of " + typ, func(d *decoder, n *node) {
		var all []T
		d.each(n, typ, func(s string) error {
			v, err := parse(s)
			all = append(all, v)
			return err
		})
		*to = all
	}}
}

// names only checks the type: names are read when all hosts are known.
func names() value {
	return value{"list of names", func(d *decoder, n *node) {
		d.each(n, "names", func(string) error { return nil })
	}}
}

// duration is at least low, which is not negative.
func duration(to *time.Duration, low time.Duration) value {
	return durationTo(to, low, math.MaxInt64)
}

// durationTo is at least low and at most high.
func durationTo(to *time.Duration, low, high time.Duration) value {
	return text("duration", to, func(s string) (time.Duration, error) {
		v, err := ParseDuration(s)
		switch {
		case err != nil:
			return 0, err
		case v < low:
			return 0, fmt.Errorf("is %s; must be at least %s", quote(s), short(low))
		case v > high:
			return 0, fmt.Errorf("is %s; must be at most %s", quote(s), short(high))
		}
		return v, nil
	})
}

// days are the units of a duration that time.ParseDuration does not know.
var days = regexp.MustCompile(`^(?:(\d{1,5})w)?(?:(\d{1,6})d)?`)

// ParseDuration reads a duration as the file has it: Go's notation, with weeks
// and days before it, "1w2d12h". It is never negative.
func ParseDuration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	wrong := fmt.Errorf(`%s is not a duration; write for example "90s", "5m", "12h", "7d" or "2w"`, quote(s))
	m := days.FindStringSubmatch(s)
	weeks, _ := strconv.Atoi("0" + m[1])
	ds, _ := strconv.Atoi("0" + m[2])
	if weeks > 10_000 || ds > 100_000 { // some centuries; keeps the sum below from overflowing
		return 0, fmt.Errorf("%s is too long", quote(s))
	}
	long := time.Duration(weeks*7+ds) * day
	rest := s[len(m[0]):]
	if rest == "" && m[0] != "" {
		return long, nil
	}
	v, err := time.ParseDuration(rest)
	switch {
	case err != nil, strings.HasPrefix(rest, "+"):
		return 0, wrong
	case v < 0:
		return 0, fmt.Errorf("%s is negative", quote(s))
	case v > math.MaxInt64-long:
		return 0, fmt.Errorf("%s is too long", quote(s))
	}
	return long + v, nil
}

// short is a duration without units of zero: "1h", not "1h0m0s".
func short(v time.Duration) string {
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// minRetryAfter: Retry-After counts whole seconds (RFC 9110, 10.2.3).
const minRetryAfter = time.Second

// size is a number of bytes, at least low.
func size(to *int64, low int64) value {
	return value{"size", func(d *decoder, n *node) {
		if !d.want(n, `a size such as "100MiB", or a number of bytes`, kindText, kindNumber) {
			return
		}
		v, err := parseSize(n.text)
		if n.kind == kindNumber {
			v, err = strconv.ParseInt(strings.ReplaceAll(n.text, "_", ""), 0, 64)
			if err == nil && v < 0 {
				err = errors.New("must not be negative")
			} else if err != nil {
				err = errors.New("is too large")
			}
		}
		if err == nil && v < low {
			err = fmt.Errorf("must be at least %d bytes", low)
		}
		if err != nil {
			d.fail(n, err)
			return
		}
		*to = v
	}}
}

var sizes = regexp.MustCompile(`^(\d+(?:\.\d+)?) ?([KMGT]i?)?B$`)

func parseSize(s string) (int64, error) {
	m := sizes.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf(`%s is not a size; write for example "512KiB", "100MiB", "10MB" or a number of bytes`, quote(s))
	}
	unit := map[string]float64{"": 1,
		"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
		"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}[m[2]]
	number, err := strconv.ParseFloat(m[1], 64)
	if v := number * unit; err == nil && v < math.MaxInt64 {
		return int64(v), nil
	}
	return 0, fmt.Errorf("%s is too large", quote(s))
}

// mode is permission bits, as text or as TOML's octal number.
func mode(to *uint32) value {
	return value{"mode", func(d *decoder, n *node) {
		const example = `an octal mode in quotes, such as "0640"`
		if !d.want(n, example, kindText, kindNumber) {
			return
		}
		digits := n.text
		if n.kind == kindNumber {
			var octal bool
			if digits, octal = strings.CutPrefix(digits, "0o"); !octal {
				d.fail(n, fmt.Errorf("must be %s", example))
				return
			}
		}
		v, err := strconv.ParseUint(digits, 8, 32)
		switch {
		case err != nil || v > 0o777:
			d.fail(n, fmt.Errorf("must be %s", example))
		case v&0o600 != 0o600:
			d.fail(n, fmt.Errorf("must let the gateway itself read and write: %#o", v|0o600))
		default:
			*to = uint32(v)
		}
	}}
}

// headers is a table of header names and values. Values may be secrets and are
// never shown.
func headers(to *[]Header) value {
	return value{"table of texts", func(d *decoder, n *node) {
		if !d.want(n, `a table such as { "X-Frame-Options" = "DENY" }`, kindTable) {
			return
		}
		seen := map[string]bool{}
		for _, m := range n.members {
			name := textproto.CanonicalMIMEHeaderKey(m.key)
			switch {
			case !httpguts.ValidHeaderFieldName(m.key):
				d.failKey(m, errors.New("is not a header name"))
			case ownHeader(name):
				d.failKey(m, errors.New("belongs to the connection; the gateway sets it itself"))
			case seen[name]:
				d.failKey(m, fmt.Errorf("%s is set twice", name))
			case !d.want(m, "text in quotes", kindText):
			case !httpguts.ValidHeaderFieldValue(m.text) || strings.TrimSpace(m.text) != m.text:
				d.fail(m, errors.New("holds characters a header must not have, or spaces around it"))
			default:
				*to = append(*to, Header{Name: name, Value: m.text})
			}
			seen[name] = true
		}
	}}
}

// ownHeader reports whether a header describes one connection, or how a body is
// framed or coded on it (RFC 9110, 7.6.1; RFC 9112, 6): no file can know those.
func ownHeader(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Proxy-Authenticate", "Proxy-Authorization", "Content-Length", "Content-Encoding", "Alt-Svc":
		return true
	}
	return false
}

// anyText is a text of any content.
func anyText(s string) (string, error) { return s, nil }

// argument is a word of a command line, which may hold anything but the byte
// that ends it (execve(2)).
func argument(s string) (string, error) {
	if strings.ContainsRune(s, 0) {
		return "", errors.New("must not hold a NUL")
	}
	return s, nil
}

func nonEmpty(s string) (string, error) {
	if strings.TrimSpace(s) != s || s == "" {
		return "", errors.New("must not be empty, nor have spaces around it")
	}
	return s, nil
}

func nonEmptyPath(s string) (string, error) {
	if s == "" || strings.ContainsRune(s, 0) {
		return "", errors.New("must be a path")
	}
	return filepath.Clean(s), nil
}

// socketPath is a path short enough for a unix socket: sun_path holds 108
// bytes with the closing zero (unix(7)).
func socketPath(s string) (string, error) {
	if len(s) > 107 {
		return "", errors.New("is too long for a unix socket: at most 107 bytes")
	}
	return nonEmptyPath(s)
}

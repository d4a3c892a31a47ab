package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// MaxDrain is the longest drain: whoever has not finished within a day is not in
// the middle of something.
const MaxDrain = 24 * time.Hour

// maxHold: browsers give up on an answer after five minutes.
const maxHold = 5 * time.Minute

// wooCommerce are the signs of a shop's customer with something in the cart, or
// on the way through the checkout.
func wooCommerce() Session {
	return Session{
		Cookies: []string{"woocommerce_items_in_cart", "woocommerce_cart_hash", "wp_woocommerce_session_*"},
		Paths:   []string{"/cart", "/checkout", "/wc-api", "/wp-json/wc/store"},
		Queries: []string{"wc-ajax"},
	}
}

// nextcloud are the signs of somebody who is logged in, of an upload in pieces,
// and of a document that an editor has open and will save. Its other cookies are
// given to everybody who opens the login page.
func nextcloud() Session {
	return Session{
		Cookies: []string{"nc_session_id", "nc_token", "nc_username"},
		Paths: []string{"/remote.php/dav/uploads",
			"/apps/text/session", "/index.php/apps/text/session",
			"/apps/richdocuments/wopi", "/index.php/apps/richdocuments/wopi"},
	}
}

// readySession is the name of a ready-made set.
func readySession(to *Session) value {
	return value{`"woocommerce", "nextcloud" or a table`, func(d *decoder, n *node) {
		if !d.want(n, `"woocommerce", "nextcloud", or a table such as { cookies = ["session_*"] }`, kindText, kindTable) {
			return
		}
		switch n.text {
		case "woocommerce":
			*to = wooCommerce()
		case "nextcloud":
			*to = nextcloud()
		default:
			d.fail(n, fmt.Errorf(`is %s; must be "woocommerce", "nextcloud", or a table such as { cookies = ["session_*"] }`, quote(n.text)))
		}
	}}
}

// cookieName is a token (RFC 6265, 4.1.1), or the beginning of one and "*".
func cookieName(s string) (string, error) {
	if !httpguts.ValidHeaderFieldName(strings.TrimSuffix(s, "*")) || strings.Contains(strings.TrimSuffix(s, "*"), "*") {
		return "", fmt.Errorf(`%s is not the name of a cookie, nor its beginning with a * behind it, such as "session_*"`, quote(s))
	}
	return s, nil
}

// sessionPath is a path that stands for everything below it as well, so the
// endings that would say so are taken off.
func sessionPath(s string) (string, error) {
	path := strings.TrimRight(strings.TrimSuffix(s, "/*"), "/")
	switch {
	case !strings.HasPrefix(s, "/") || strings.ContainsAny(path, "?#*") || !isURIText(s):
		return "", fmt.Errorf(`%s is not a path; write it as in a URL, such as "/checkout", without query`, quote(s))
	case path == "":
		return "", fmt.Errorf("%s is every request: nobody would be a new visitor", quote(s))
	}
	return path, nil
}

func queryName(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, "=&#?") || !isURIText(s) {
		return "", fmt.Errorf("%s is not the name of a query parameter, as it stands in a URL", quote(s))
	}
	return s, nil
}

// probePath is what a probe asks for: a path, maybe with a query.
func probePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") || strings.Contains(s, "#") || !isURIText(s) {
		return "", fmt.Errorf(`%s is not a path; write it as in a URL, such as "/healthz"`, quote(s))
	}
	return s, nil
}

// isURIText reports whether s is of visible ASCII, as all of a URI is
// (RFC 3986, 2).
func isURIText(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

var statusForm = regexp.MustCompile(`^([1-5])xx$|^([1-5]\d\d)(?:-([1-5]\d\d))?$`)

// statusRange is one status, a class of them, or from one to another.
func statusRange(low, high *int) value {
	return value{"status", func(d *decoder, n *node) {
		if !d.want(n, `a status in quotes, such as "2xx"`, kindText) {
			return
		}
		m := statusForm.FindStringSubmatch(n.text)
		if m == nil {
			d.fail(n, fmt.Errorf(`is %s; write for example "2xx", "204" or "200-399"`, quote(n.text)))
			return
		}
		from, to := m[1]+m[2], m[3]
		switch {
		case m[1] != "":
			from, to = m[1]+"00", m[1]+"99"
		case to == "":
			to = from
		}
		*low, _ = strconv.Atoi(from)
		*high, _ = strconv.Atoi(to)
		if *low > *high {
			d.fail(n, errors.New("ends before it begins"))
		}
	}}
}

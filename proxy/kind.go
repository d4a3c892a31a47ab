package proxy

import (
	"net/http"
	"strings"
)

// kind is what kind of client asks for what, as far as an offline host's answer differs.
type kind uint8

const (
	kindPage      kind = iota // a person opens a page
	kindPart                  // an image, a script, a style, a font; fetch and XHR
	kindPreflight             // a browser asks whether a script may (CORS)
	kindSubmit                // a form, and every other method that changes something
	kindWebSocket             // also every other extended CONNECT
	kindGRPC                  // gRPC and gRPC-Web
	kindDAV                   // WebDAV, CalDAV, CardDAV; Nextcloud's and ownCloud's apps
	kindProbe                 // Nextcloud's /status.php, asked by an app
	kindBot                   // search engines, link previews
	kindFetch                 // git, and programs that fetch container images
)

// kindOf classifies r by its header alone; the body is not touched.
func kindOf(r *http.Request) kind {
	agent := agentOf(first(r.Header["User-Agent"]))
	mode := first(r.Header["Sec-Fetch-Mode"])
	switch {
	case isWebSocket(r):
		return kindWebSocket
	case isGRPC(r.Header):
		return kindGRPC
	case r.Method == http.MethodOptions && r.Header["Access-Control-Request-Method"] != nil:
		return kindPreflight
	case isStatusProbe(r, agent):
		return kindProbe
	case agent == agentCloud || isDAVMethod(r.Method) || isDAVPath(r.URL.Path):
		return kindDAV
	case r.Header["Authorization"] != nil && mode == "" && preferredFormat(r.Header["Accept"]) != formatHTML:
		return kindDAV // a program that logs in, reading with GET; its password must not go elsewhere
	case mode != "" && mode != "navigate",
		strings.EqualFold(first(r.Header["X-Requested-With"]), "XMLHttpRequest"),
		wantsJSON(r.Header["Accept"]):
		return kindPart
	case !isSafe(r.Method):
		return kindSubmit
	case agent == agentBot:
		return kindBot
	case isFetchPath(r.URL.Path) && mode == "" && preferredFormat(r.Header["Accept"]) != formatHTML:
		return kindFetch
	}
	return kindPage
}

// isWebSocket recognises the handshake of HTTP/1.1 (RFC 6455) and the extended
// CONNECT of HTTP/2 and 3 (RFC 8441, 9220): net/http keeps its protocol in the
// header, quic-go in the place of the request's own.
func isWebSocket(r *http.Request) bool {
	if r.Method == http.MethodConnect {
		return r.Header[":protocol"] != nil || !strings.HasPrefix(r.Proto, "HTTP/")
	}
	return hasToken(r.Header["Upgrade"], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

// isGRPC covers application/grpc, its +proto and +json forms, and grpc-web.
func isGRPC(h http.Header) bool {
	return hasPrefixFold(first(h["Content-Type"]), "application/grpc")
}

// isStatusProbe recognises how Nextcloud's apps ask whether the server is there. In
// other places than the root only the apps themselves are answered so: the answer is a
// 200, and must not tell a monitor of another service that all is well.
func isStatusProbe(r *http.Request, agent agent) bool {
	if !isSafe(r.Method) {
		return false
	}
	if agent == agentCloud {
		return strings.HasSuffix(r.URL.Path, "/status.php")
	}
	return r.URL.Path == "/status.php" &&
		first(r.Header["Sec-Fetch-Mode"]) != "navigate" &&
		preferredFormat(r.Header["Accept"]) != formatHTML // a browser without Sec-Fetch
}

// isDAVMethod: WebDAV and its versioning, access, search, binding and calendar
// extensions (RFC 4918, 3253, 3744, 5323, 5842, 4791).
func isDAVMethod(method string) bool {
	switch method {
	case "PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK",
		"REPORT", "MKCALENDAR", "MKADDRESSBOOK", "SEARCH", "ACL",
		"BIND", "UNBIND", "REBIND", "VERSION-CONTROL", "CHECKOUT", "CHECKIN", "UNCHECKOUT",
		"MKACTIVITY", "MKWORKSPACE", "MERGE", "UPDATE", "LABEL", "BASELINE-CONTROL", "ORDERPATCH":
		return true
	}
	return false
}

// isDAVPath recognises the entry points of Nextcloud and ownCloud, also when
// they live in a folder, and the discovery of CalDAV and CardDAV (RFC 6764).
func isDAVPath(path string) bool {
	return strings.Contains(path, "/remote.php/") || strings.HasSuffix(path, "/remote.php") ||
		strings.HasPrefix(path, "/ocs/") || strings.Contains(path, "/ocs/v1.php/") || strings.Contains(path, "/ocs/v2.php/") ||
		strings.HasSuffix(path, "/index.php/204") ||
		path == "/.well-known/caldav" || path == "/.well-known/carddav"
}

// isFetchPath recognises where git begins (gitprotocol-http), and what is fetched from
// container registries (OCI distribution; _catalog is docker's). Both would follow a
// redirect, and take its target for the repository or the registry.
func isFetchPath(path string) bool {
	if strings.HasSuffix(path, "/info/refs") {
		return true
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	return ok && (rest == "" || rest == "_catalog" ||
		strings.Contains(rest, "/manifests/") || strings.Contains(rest, "/blobs/") ||
		strings.Contains(rest, "/referrers/") || strings.HasSuffix(rest, "/tags/list"))
}

// agent is what a User-Agent tells about its program.
type agent uint8

const (
	agentOther agent = iota
	agentCloud       // an app of Nextcloud or ownCloud, or DAVx5
	agentBot         // says of itself that it is a robot
)

// agentOf reads a User-Agent word by word. A word is a run of letters, so that
// "Googlebot/2.1" and "AdsBot-Google" both hold a bot.
func agentOf(userAgent string) agent {
	found := agentOther
	for s := userAgent; s != ""; {
		n := 0
		for n < len(s) && isLetter(s[n]) {
			n++
		}
		if n == 0 {
			s = s[1:]
			continue
		}
		word := s[:n]
		s = s[n:]
		if isCloudWord(word) {
			return agentCloud
		}
		if found == agentOther && isBotWord(word) {
			found = agentBot
		}
	}
	return found
}

func isLetter(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z'
}

// isCloudWord: mirall is the desktop client of both, ownCloudApp that on iOS,
// and DAVx5 loses its digit.
func isCloudWord(word string) bool {
	switch word[0] | 0x20 { // nearly every word is done with here
	case 'm', 'n', 'o', 'd':
	default:
		return false
	}
	return hasPrefixFold(word, "mirall") || hasPrefixFold(word, "nextcloud") ||
		hasPrefixFold(word, "owncloud") || strings.EqualFold(word, "davx")
}

// isBotWord matches by a word's end: bingbot, YandexBot, Baiduspider. Cubot
// makes phones. Facebook's previews call themselves something else.
func isBotWord(word string) bool {
	if n := len(word); word[n-1]|0x20 == 's' && n > 1 { // crawlers, robots
		word = word[:n-1]
	}
	switch word[len(word)-1] | 0x20 {
	case 't', 'r', 'p':
	default:
		return false
	}
	return hasSuffixFold(word, "bot") && !strings.EqualFold(word, "cubot") ||
		hasSuffixFold(word, "crawler") || hasSuffixFold(word, "spider") ||
		hasSuffixFold(word, "slurp") || strings.EqualFold(word, "facebookexternalhit")
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

func hasSuffixFold(s, suffix string) bool {
	return len(s) >= len(suffix) && strings.EqualFold(s[len(s)-len(suffix):], suffix)
}

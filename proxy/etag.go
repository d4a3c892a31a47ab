package proxy

import (
	"net/http"
	"slices"
	"strings"
)

// The same page in gzip, zstd and identity is three representations, and a
// strong entity tag names one (RFC 9110, 8.8.3). So a tag gets its coding as a
// suffix on the way out, and loses it on the way to the upstream, which knows
// only its own.

// addETagSuffix gives the tag for the representation in c. A weak tag says
// only that the content means the same, so it stays.
func addETagSuffix(tag string, c coding) string {
	if len(tag) < 2 || tag[0] != '"' || tag[len(tag)-1] != '"' {
		return tag
	}
	return tag[:len(tag)-1] + c.suffix() + `"`
}

// stripETagSuffix takes our suffixes off If-None-Match and If-Match in h, the
// header of a request to the upstream. The value slices of h are replaced,
// never written, so they may be shared with the client's request.
//
// In If-None-Match a suffix stays when the client does not accept that coding
// (any more): the upstream then does not know the tag and answers in full.
// If-Range keeps all of them: ranges of an encoded form cannot be continued
// with those of the upstream, and an unknown tag makes it send the whole.
func stripETagSuffix(h http.Header) {
	if values := h["If-Match"]; values != nil {
		h["If-Match"] = cutSuffixes(values, codingWeights{gzip: certain, zstd: certain})
	}
	if values := h["If-None-Match"]; values != nil {
		h["If-None-Match"] = cutSuffixes(values, readCodings(h["Accept-Encoding"]))
	}
}

// cutSuffixes returns values without the suffixes of the accepted codings. A
// quote never stands inside a tag, so a suffix before one is at a tag's end.
func cutSuffixes(values []string, accepted codingWeights) []string {
	cut := values
	for i, v := range values {
		bare := v
		for _, c := range [...]coding{gzipCoding, zstdCoding} {
			if accepted.accepts(c) {
				bare = strings.ReplaceAll(bare, c.suffix()+`"`, `"`)
			}
		}
		if bare == v {
			continue
		}
		if &cut[0] == &values[0] {
			cut = slices.Clone(values)
		}
		cut[i] = bare
	}
	return cut
}

// notModified prepares a 304: it names the tag that the client knows, which
// may be the upstream's with a suffix, and what the answer varies with.
func (c *compressWriter) notModified(h http.Header) {
	if hasToken(h["Cache-Control"], "no-transform") {
		return
	}
	addVary(h, "Accept-Encoding")
	tag := h.Get("Etag")
	if tag == "" {
		return
	}
	knows := func(tag string) bool { // both quotes are in it: no partial match
		return slices.ContainsFunc(c.ifNoneMatch, func(v string) bool { return strings.Contains(v, tag) })
	}
	// A cache may know several forms: ours to choose is the one a GET gets now.
	best := c.weights.best()
	if suffixed := addETagSuffix(tag, best); best != identity && knows(suffixed) {
		h["Etag"] = []string{suffixed}
		return
	}
	if knows(tag) {
		return
	}
	for _, other := range [...]coding{gzipCoding, zstdCoding} {
		if suffixed := addETagSuffix(tag, other); c.weights.accepts(other) && knows(suffixed) {
			h["Etag"] = []string{suffixed}
			return
		}
	}
}

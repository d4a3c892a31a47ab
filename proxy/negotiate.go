package proxy

import (
	"iter"
	"strings"
)

// certain is the weight of an item without a q parameter, in thousandths.
const certain = 1000

// items are those of a comma-separated header field, each with its weight
// (RFC 9110, 12.4.2) in thousandths. They come without parameters and
// surrounding space, in the client's spelling. A weight that cannot be read
// counts as 0: what a client asked for in a broken way is not forced on it.
func items(values []string) iter.Seq2[string, int] {
	return func(yield func(item string, q int) bool) {
		for _, list := range values {
			for list != "" {
				var item, params string
				item, list, _ = strings.Cut(list, ",")
				item, params, _ = strings.Cut(item, ";")
				if item = strings.Trim(item, " \t"); item != "" && !yield(item, weight(params)) {
					return
				}
			}
		}
	}
}

// weight finds q among the parameters of an item.
func weight(params string) int {
	for params != "" {
		var p string
		p, params, _ = strings.Cut(params, ";")
		name, value, ok := strings.Cut(p, "=")
		if ok && strings.EqualFold(strings.Trim(name, " \t"), "q") {
			return parseWeight(strings.Trim(value, " \t"))
		}
	}
	return certain
}

// parseWeight reads "0", "1", "0.5", "1.000" as thousandths.
func parseWeight(s string) int {
	whole, fraction, _ := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(fraction) > 3 {
		return 0
	}
	q := int(whole[0]-'0') * certain
	for i, unit := 0, certain/10; i < len(fraction); i, unit = i+1, unit/10 {
		if c := fraction[i]; c < '0' || c > '9' {
			return 0
		} else {
			q += int(c-'0') * unit
		}
	}
	return min(q, certain)
}

// hasToken reports whether one of the comma-separated values names token,
// whatever its case; parameters ("max-age=0", "gzip;q=1") are not looked at.
func hasToken(values []string, token string) bool {
	for item := range items(values) {
		if strings.EqualFold(item, token) {
			return true
		}
	}
	return false
}

// coding is a content coding (RFC 9110, 8.4.1).
type coding uint8

const (
	identity coding = iota
	gzipCoding
	zstdCoding
)

// String is the coding's registered name.
func (c coding) String() string {
	switch c {
	case gzipCoding:
		return "gzip"
	case zstdCoding:
		return "zstd"
	}
	return "identity"
}

// suffix is what a strong entity tag gets at its end when its representation
// is sent in this coding.
func (c coding) suffix() string { return "-" + c.String() }

// codingWeights are a client's weights for the codings we have, in thousandths.
type codingWeights struct {
	gzip, zstd, identity int
}

// readCodings reads Accept-Encoding (RFC 9110, 12.5.3). Without the field we
// send identity only: what sends none rarely knows how to decode.
func readCodings(values []string) codingWeights {
	const unsaid = -1
	w := codingWeights{unsaid, unsaid, unsaid}
	other := unsaid
	for item, q := range items(values) {
		switch {
		case strings.EqualFold(item, "gzip"), strings.EqualFold(item, "x-gzip"):
			w.gzip = q
		case strings.EqualFold(item, "zstd"):
			w.zstd = q
		case strings.EqualFold(item, "identity"):
			w.identity = q
		case item == "*":
			other = q
		}
	}
	if w.gzip == unsaid {
		w.gzip = max(other, 0)
	}
	if w.zstd == unsaid {
		w.zstd = max(other, 0)
	}
	if w.identity == unsaid && other == 0 {
		w.identity = 0 // "*;q=0" forbids it too
	}
	return w
}

// best is the coding to answer in; a tie goes to zstd. identity not mentioned
// is acceptable but never preferred.
func (w codingWeights) best() coding {
	switch {
	case w.zstd > 0 && w.zstd >= w.gzip && w.zstd >= w.identity:
		return zstdCoding
	case w.gzip > 0 && w.gzip >= w.identity:
		return gzipCoding
	}
	return identity
}

// accepts reports whether the client can decode c.
func (w codingWeights) accepts(c coding) bool {
	switch c {
	case gzipCoding:
		return w.gzip > 0
	case zstdCoding:
		return w.zstd > 0
	}
	return w.identity != 0
}

package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Problem is one mistake in a configuration, with its place.
type Problem struct {
	File    string // as given to Load or Parse
	Line    int    // from 1
	Column  int    // from 1, in characters
	Key     string // path of the key, `hosts.blog.upstream`; "" = the text itself is malformed
	Message string // what is wrong and what would be right; never a secret
}

// Error is "proxy.toml:14:9: hosts.blog.upstream: …".
func (p Problem) Error() string {
	if p.Key == "" {
		return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s: %s", p.File, p.Line, p.Column, p.Key, p.Message)
}

// Problems is every mistake of a configuration, sorted by place. As an error it
// is never empty.
type Problems []Problem

// Error is one line for each problem.
func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// places turns byte offsets of a file into lines and columns.
type places struct {
	data  []byte
	lines []int // offset of each line's first byte
}

func newPlaces(data []byte, start int) *places {
	p := &places{data: data, lines: []int{start}}
	for at := start; ; {
		i := bytes.IndexByte(data[at:], '\n')
		if i < 0 {
			return p
		}
		at += i + 1
		p.lines = append(p.lines, at)
	}
}

func (p *places) line(offset int) int {
	after, _ := slices.BinarySearch(p.lines, offset+1)
	return max(1, after)
}

func (p *places) column(offset int) int {
	start := p.lines[p.line(offset)-1]
	return 1 + utf8.RuneCount(p.data[start:max(start, offset)])
}

// mistakes collects problems of one file.
type mistakes struct {
	file   string
	places *places
	found  Problems
}

func (m *mistakes) add(offset int, key, message string) {
	m.found = append(m.found, Problem{
		File: m.file, Line: m.places.line(offset), Column: m.places.column(offset),
		Key: key, Message: message,
	})
}

// err is nil without problems, so that no empty Problems becomes an error.
func (m *mistakes) err() error {
	if len(m.found) == 0 {
		return nil
	}
	slices.SortStableFunc(m.found, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return m.found
}

// quote shows a value of the file in a message: on one line, with nothing a
// terminal would act on, and short.
func quote(s string) string {
	const enough = 60 // runes; the place tells the rest
	if utf8.RuneCountInString(s) > enough {
		s = string([]rune(s)[:enough]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

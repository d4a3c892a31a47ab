package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents are the README and all pages, as path and text.
func documents(t *testing.T) map[string]string {
	t.Helper()
	const root = "../.."
	paths := []string{filepath.Join(root, "README.md")}
	for _, pattern := range []string{"docs/*.md", "docs/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("Glob(%q) = %v, %v; want pages", pattern, found, err)
		}
		paths = append(paths, found...)
	}
	texts := map[string]string{}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[path] = string(data)
	}
	return texts
}

var (
	fenced = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	// A command in backticks, or on a line of a block, there up to a comment, a
	// pipe or a redirection.
	inline  = regexp.MustCompile("`(?:sudo )?detour ([a-z][^`]*)`")
	onALine = regexp.MustCompile(`(?m)^ *(?:sudo )?(?:go run \./cmd/)?detour ([a-z][^\n#|>]*)`)
	word    = regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s]+`)
)

// Every command of the documentation exists, with its flags.
func TestDocumentedCommandsExist(t *testing.T) {
	tried := 0
	for path, text := range documents(t) {
		found := inline.FindAllStringSubmatch(fenced.ReplaceAllString(text, ""), -1)
		for _, block := range fenced.FindAllString(text, -1) {
			found = append(found, onALine.FindAllStringSubmatch(block, -1)...)
		}
		for _, f := range found {
			tried++
			cmd, rest, err := new(program).rootCommand().Find(word.FindAllString(f[1], -1))
			if err == nil {
				err = cmd.ParseFlags(rest)
			}
			if err != nil {
				t.Errorf("%s: detour %s: %v", path, strings.TrimSpace(f[1]), err)
			}
		}
	}
	if tried < 40 {
		t.Errorf("found %d commands in the documentation; want more: is their pattern still right?", tried)
	}
}

var link = regexp.MustCompile(`\]\(([^)\s#]*)(?:#([^)\s]*))?\)`)

// Every link to a file of ours leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	for path, text := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			target := path
			if found[1] != "" {
				target = filepath.Join(filepath.Dir(path), found[1])
			}
			data, err := os.ReadFile(target)
			if err != nil || found[2] != "" && !slices.Contains(anchors(string(data)), found[2]) {
				t.Errorf("%s: the link to %s leads nowhere (%v)", path, strings.Trim(found[0], "]()"), err)
			}
		}
	}
}

var (
	heading  = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unlinked = regexp.MustCompile(`[^\w\- ]`)
)

// anchors are the names that headings have in links.
func anchors(text string) []string {
	var names []string
	for _, h := range heading.FindAllStringSubmatch(text, -1) {
		names = append(names, strings.ReplaceAll(unlinked.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
	}
	return names
}

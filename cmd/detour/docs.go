//go:build docs

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// packagingCommands make what a package ships besides the program. They are in
// the binary that packaging/build runs, not in the one it packs: the libraries
// they need would cost every gateway half a megabyte of memory.
func (p *program) packagingCommands() []*cobra.Command {
	return []*cobra.Command{{
		Use:    "docs DIR",
		Short:  "Write man pages and shell completions into DIR",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			man := filepath.Join(args[0], "man")
			completions := filepath.Join(args[0], "completions")
			for _, dir := range []string{man, completions} {
				if err := os.MkdirAll(dir, 0o755); err != nil {
					return err
				}
			}
			root.DisableAutoGenTag = true                                                                     // pages of one version are the same bytes, whenever they are made
			header := &doc.GenManHeader{Section: "1", Source: "detour " + programVersion(), Manual: "detour"} // dated by SOURCE_DATE_EPOCH
			if err := doc.GenManTree(root, header, man); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			return errors.Join(
				root.GenBashCompletionFileV2(filepath.Join(completions, "detour.bash"), true),
				root.GenZshCompletionFile(filepath.Join(completions, "_detour")),
				root.GenFishCompletionFile(filepath.Join(completions, "detour.fish"), true),
			)
		},
	}}
}

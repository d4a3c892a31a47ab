//go:build !docs

package main

import "github.com/spf13/cobra"

func (p *program) packagingCommands() []*cobra.Command { return nil }

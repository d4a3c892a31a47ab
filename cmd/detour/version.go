package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version and commit are set by the linker in packaged builds
// (-ldflags "-X main.version=… -X main.commit=…"); else the build info knows.
var version, commit string

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "  detour version",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(p.stdout, "detour", versionText())
			return nil
		},
	}
}

// versionText is what detour version and detour --version print behind the name.
func versionText() string {
	return fmt.Sprintf("%s (commit %s, %s %s/%s)",
		programVersion(), programCommit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func programVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return cmp.Or(version, "devel")
	}
	return cmp.Or(version, info.Main.Version, "devel")
}

func programCommit() string {
	known := commit
	if info, ok := debug.ReadBuildInfo(); ok && known == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				known = setting.Value
			}
		}
	}
	known = cmp.Or(known, "unknown")
	return known[:min(len(known), 12)] // as git abbreviates, with room to spare
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"detour/config"
	"detour/gateway"

	"github.com/spf13/cobra"
)

// onlineTimeout is enough for a few requests to Cloudflare, retries included.
const onlineTimeout = 90 * time.Second

func (p *program) checkCommand() *cobra.Command {
	online := false
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Look for mistakes in the configuration",
		Long: `Look for mistakes in the configuration and print all of them, each with its
place. Nothing is changed, and nobody is asked unless --online is given: then
Cloudflare is asked whether the token is valid, what it may do, and whether it
sees each zone. The token is found where the gateway finds it: token_file,
CLOUDFLARE_API_TOKEN, CF_API_TOKEN, or the file cloudflare_token beside the
configuration, which is the service's credential.

Exit status: 0 no mistake; 2 a mistake in the file, or something is wrong with
the token; 1 Cloudflare gave no answer. A certificate of your own that is not
for all names of its host only causes a warning.`,
		Example: "  detour check\n  detour check --online -c /etc/detour/proxy.toml",
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := p.configPath()
			if err != nil {
				return err
			}
			cfg, err := config.Load(path)
			if err != nil {
				return notRead(path, err)
			}
			for _, foreign := range gateway.CheckCertificates(cfg) {
				p.warn("%s", foreign)
			}
			if online {
				lookBeside(path)
				ctx, cancel := context.WithTimeout(cmd.Context(), onlineTimeout)
				defer cancel()
				if err := gateway.CheckOnline(ctx, cfg); err != nil {
					return aboutToken(err)
				}
			}
			up := 0
			for i := range cfg.Hosts {
				if cfg.WantsOnline(&cfg.Hosts[i]) {
					up++
				}
			}
			fmt.Fprintf(p.stdout, "%s: ok: %s, %d online, %d offline\n", filepath.Base(path), count(len(cfg.Hosts), "host"), up, len(cfg.Hosts)-up)
			return nil
		},
	}
	cmd.Flags().BoolVar(&online, "online", false, "also ask Cloudflare about the token")
	return cmd
}

// aboutToken is an error of the question to Cloudflare, with what to do about it.
func aboutToken(err error) error {
	switch {
	case errors.Is(err, gateway.ErrUnasked):
		return &operatorError{err, "detour check --online again when Cloudflare can be reached; the file has no mistakes", exitFailed}
	case errors.Is(err, fs.ErrPermission):
		return &operatorError{err, "the same command with sudo", exitFailed}
	}
	return usageError(err, "detour check --online again when that is mended; the token needs Zone:Read and DNS:Edit on each zone")
}

// lookBeside lets a check from a shell find the token where detour.service
// takes it from, which systemd would have handed over as a credential.
func lookBeside(path string) {
	const credentials = "CREDENTIALS_DIRECTORY"
	if os.Getenv(credentials) == "" {
		os.Setenv(credentials, filepath.Dir(path))
	}
}

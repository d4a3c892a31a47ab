package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"detour/control"

	"github.com/spf13/cobra"
)

func (p *program) certsCommand() *cobra.Command {
	asJSON := false
	certs := &cobra.Command{
		Use:     "certs",
		Short:   "List the certificates of the running gateway",
		Example: "  detour certs\n  detour certs retry blog.example.org\n  detour certs root > root.pem",
		Args:    cobra.NoArgs,
		RunE: p.asking(func(ctx context.Context, _ string, gw *control.Client, _ []string) error {
			st, err := gw.Status(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return p.printJSON(certificatesOf(st))
			}
			writeCertificates(p.stdout, certificatesOf(st), time.Now())
			return nil
		}),
	}
	certs.Flags().BoolVar(&asJSON, "json", false, "print JSON for programs")
	certs.AddCommand(
		&cobra.Command{
			Use:   "root",
			Short: "Print the local CA's root certificate in PEM",
			Long: `Print the local CA's root certificate in PEM. Devices that trust it trust every
certificate of ca = "local", and those that are used until a host's first real
certificate has arrived.`,
			Example: "  detour certs root > root.pem\n  curl --cacert root.pem https://blog.example.org/",
			Args:    noArguments,
			RunE: p.asking(func(ctx context.Context, _ string, gw *control.Client, _ []string) error {
				root, err := gw.LocalRoot(ctx)
				if err != nil {
					return err
				}
				_, err = p.stdout.Write(root)
				return err
			}),
		},
		&cobra.Command{
			Use:   "retry [HOST…]",
			Short: "Order failing certificates again now",
			Long: `Order failing certificates again now instead of at their next try, for example
after replacing the token. HOST is a name as in [hosts], a full name or an alias;
without one, all are tried.`,
			Example: "  detour certs retry\n  detour certs retry blog.example.org",
			RunE: p.asking(func(ctx context.Context, path string, gw *control.Client, hosts []string) error {
				names, err := namesServed(ctx, path, gw, hosts)
				if err != nil {
					return err
				}
				if err := gw.RetryCertificates(ctx, names...); err != nil {
					return err
				}
				fmt.Fprintln(p.stdout, "trying again; detour certs shows how it went")
				return nil
			}),
		},
	)
	return certs
}

// namesServed returns the names that the gateway serves for the given hosts. An
// unknown host is an error: no names would mean all of them.
func namesServed(ctx context.Context, path string, gw *control.Client, hosts []string) ([]string, error) {
	st, err := gw.Status(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, named := range hosts {
		h := hostNamed(st, named, fullName(path, named))
		if h == nil {
			return nil, noSuchHost(named)
		}
		names = append(append(names, h.Host), h.Aliases...)
	}
	return names, nil
}

// certificatesOf lists the hosts' certificates, each once: several hosts may
// share a wildcard.
func certificatesOf(st control.Status) []control.Certificate {
	list := []control.Certificate{} // [] in JSON, never null
	seen := map[string]bool{}
	for _, h := range st.Hosts {
		all := h.AliasCertificates
		if h.Certificate != nil {
			all = append([]control.Certificate{*h.Certificate}, all...)
		}
		for _, c := range all {
			key := strings.Join(c.Names, " ") + " " + c.Issuer
			if !seen[key] {
				seen[key] = true
				list = append(list, c)
			}
		}
	}
	return list
}

func writeCertificates(w io.Writer, list []control.Certificate, now time.Time) {
	t := newTable(w, "NAMES", "STATE", "EXPIRES", "ISSUER", "ERROR")
	for i := range list {
		c := &list[i]
		expires := "-"
		if !c.NotAfter.IsZero() {
			expires = c.NotAfter.Local().Format("2006-01-02 15:04")
		}
		t.row(strings.Join(c.Names, ", "), certificate(c, now), expires, cmp.Or(c.Issuer, "-"), cmp.Or(c.Error+nextTry(c, now), "-"))
	}
	t.end()
}

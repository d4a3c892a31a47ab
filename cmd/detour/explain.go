package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"detour/control"

	"github.com/spf13/cobra"
	"golang.org/x/net/http/httpguts"
)

func (p *program) explainCommand() *cobra.Command {
	var request control.ExplainRequest
	var headers []string
	asJSON := false
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Say what the gateway would do with a request, and why",
		Long: `Say what the running gateway would do with a request at this moment, and why:
the host's entry, its state and the cause, the answer, the upstream. Nothing is
sent to the upstream. Without a scheme the URL is https, and its host may be a
name as in [hosts].`,
		Example: `  detour explain https://shop.example.org/cart
  detour explain shop/cart -X POST -H 'Accept: application/json'
  detour explain shop.example.org -H 'Cookie: woocommerce_items_in_cart=1'
  detour explain shop.example.org --client 192.168.1.7`,
		Args:              oneArgument("URL"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = p.asking(func(ctx context.Context, path string, gw *control.Client, args []string) error {
		var err error
		if request.URL, err = absolute(path, args[0]); err == nil {
			request.Header, err = parseHeaders(headers)
		}
		if _, bad := netip.ParseAddr(request.Client); err == nil && bad != nil && request.Client != "" {
			err = fmt.Errorf("--client: %q is not an address; write for example 192.168.1.7", request.Client)
		}
		if err != nil {
			return usageError(err, "detour explain --help")
		}
		explanation, err := gw.Explain(ctx, request)
		switch {
		case err != nil:
			return err
		case asJSON:
			return p.printJSON(explanation)
		}
		writeExplanation(p.stdout, cmp.Or(request.Method, http.MethodGet)+" "+request.URL, explanation, clockOf(path))
		return nil
	})
	flags := cmd.Flags()
	flags.StringVarP(&request.Method, "request", "X", "", "`METHOD` (default GET)")
	flags.StringArrayVarP(&headers, "header", "H", nil, "a header field, `'NAME: VALUE'`; may be given several times")
	flags.StringVar(&request.Client, "client", "", "come from this `ADDRESS`")
	flags.BoolVar(&asJSON, "json", false, "print JSON for programs")
	return cmd
}

// absolute completes a URL as a browser's address bar does; its host may be a name
// as in [hosts] of the configuration at path.
func absolute(path, s string) (string, error) {
	if scheme, _, found := strings.Cut(s, "://"); !found || strings.ContainsAny(scheme, "/?.") {
		end := strings.IndexAny(s+"/", "/?#:")
		if name := s[:end]; name != "" && !strings.Contains(name, ".") {
			s = fullName(path, name) + s[end:]
		}
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("the URL: %w", errors.Unwrap(err))
	}
	if u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("%q is not the URL of a web page; write for example https://shop.example.org/cart", s)
	}
	return s, nil
}

// parseHeaders reads fields as curl's -H takes them.
func parseHeaders(fields []string) (http.Header, error) {
	header := make(http.Header)
	for _, field := range fields {
		name, value, found := strings.Cut(field, ":")
		value = strings.TrimSpace(value)
		if !found || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("%q is not a header field; write for example 'Accept: application/json'", field)
		}
		header.Add(name, value)
	}
	return header, nil
}

// writeExplanation is `detour explain`, a line for each question.
func writeExplanation(w io.Writer, request string, e control.Explanation, c clock) {
	fmt.Fprintln(w, printable(request))
	t := newTable(w)
	t.indent = "  "
	if e.Host == "" {
		t.row("host", "none of [hosts] is for this name")
	} else {
		t.row("host", strings.TrimSuffix(e.Host+", "+e.Entry, ", "))
		h := control.Host{State: e.State, Cause: e.Cause, Until: e.Until, DrainUntil: e.DrainUntil, Reason: e.Reason}
		state := standing(&h, c)
		if why := because(&h); why != "" {
			state += " (" + why + ")"
		}
		t.row("state", state)
	}
	if e.Kind != "" {
		t.row("client", e.Kind)
	}
	t.row("action", strings.TrimSuffix(e.Action+": "+e.Why, ": "))
	if e.Status != 0 {
		t.row("answer", fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status)))
		for _, name := range slices.Sorted(maps.Keys(e.Header)) {
			for _, value := range e.Header[name] {
				t.row("", name+": "+value)
			}
		}
	}
	if e.Upstream != "" {
		t.row("upstream", e.Upstream)
	}
	t.end()
}

package acme

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// CheckToken asks Cloudflare whether token is good for the certificates of
// names (zones or hosts): that it is alive, sees the zone of each name, and may
// read the zone's records. Nothing is changed, so whether it may also write
// them (DNS:Edit) stays open. The error joins all findings, in the operator's
// words; baseURL "" means the public API.
func CheckToken(ctx context.Context, token, baseURL string, names []string) error {
	api, err := newAPIClient(baseURL)
	if err != nil {
		return err
	}
	defer api.close()
	var alive struct{ Status string }
	_, verifyErr := api.get(ctx, token, "/user/tokens/verify", &alive)
	if apiErr := (*apiError)(nil); verifyErr != nil && !errors.As(verifyErr, &apiErr) {
		return errors.New(explain(verifyErr)) // not even reached
	}
	if verifyErr == nil && alive.Status != "active" {
		return fmt.Errorf("the Cloudflare token is %s; make a new one", alive.Status)
	}
	zones, err := api.zones(ctx, token)
	if err != nil {
		// A token that belongs to an account, not to a user, cannot be verified
		// there and still be good; only together the two errors mean something.
		if verifyErr != nil {
			err = verifyErr
		}
		return errors.New(explain(err))
	}
	var findings []error
	checked := map[string]bool{}
	for _, name := range names {
		z, ok := zoneOf(strings.TrimPrefix(name, "*."), zones)
		if !ok {
			e := &noZoneError{name: name}
			for _, z := range zones {
				e.visible = append(e.visible, z.Name)
			}
			findings = append(findings, e)
			continue
		}
		if checked[z.ID] {
			continue
		}
		checked[z.ID] = true
		var records []struct{}
		if _, err := api.get(ctx, token, "/zones/"+url.PathEscape(z.ID)+"/dns_records?per_page=1", &records); err != nil {
			findings = append(findings, fmt.Errorf("zone %s: %s", z.Name, explain(err)))
		}
	}
	return errors.Join(findings...)
}

package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// ErrUnasked is in CheckToken's error when Cloudflare gave no answer about the
// token: the network is down, or the API is.
var ErrUnasked = errors.New("no answer from Cloudflare about the token")

// CheckToken asks Cloudflare whether token is good for the certificates of
// names (zones or hosts): that it is alive, sees the zone of each name, and may
// read and edit the zone's records. Nothing is changed. The error joins all
// findings, in the operator's words; baseURL "" means the public API.
func CheckToken(ctx context.Context, token, baseURL string, names []string) error {
	api, err := newAPIClient(baseURL)
	if err != nil {
		return err
	}
	defer api.close()
	var alive struct{ Status string }
	_, verifyErr := api.call(ctx, http.MethodGet, token, "/user/tokens/verify", &alive)
	if _, answered := errors.AsType[*apiError](verifyErr); verifyErr != nil && !answered {
		return finding(verifyErr)
	}
	if verifyErr == nil && alive.Status != "active" {
		return fmt.Errorf("the Cloudflare token is %s; make a new one", alive.Status)
	}
	zones, err := api.zones(ctx, token)
	if err != nil {
		// A token that belongs to an account, not to a user, cannot be verified
		// there and still be good; only two refusals together mean something.
		if refused(err) && verifyErr != nil {
			err = verifyErr
		}
		return finding(err)
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
		if err := api.checkRecords(ctx, token, z); err != nil {
			findings = append(findings, fmt.Errorf("zone %s: %w", z.Name, finding(err)))
		}
	}
	return errors.Join(findings...)
}

// finding is err in the operator's words.
func finding(err error) error {
	if refused(err) {
		return errors.New(explain(err))
	}
	return fmt.Errorf("%w: %s", ErrUnasked, explain(err))
}

// checkRecords finds out whether token may read and edit the records of z. The
// right to edit shows in how the API refuses to delete a record that cannot
// exist: without the right it says so, with it that there is no such record.
func (c *apiClient) checkRecords(ctx context.Context, token string, z zone) error {
	records := "/zones/" + url.PathEscape(z.ID) + "/dns_records"
	var some []struct{}
	if _, err := c.call(ctx, http.MethodGet, token, records+"?per_page=1", &some); err != nil {
		return err
	}
	const nobody = "00000000000000000000000000000000"
	var none any
	_, err := c.call(ctx, http.MethodDelete, token, records+"/"+nobody, &none)
	if e, _ := errors.AsType[*apiError](err); refused(err) && e.Status != http.StatusForbidden && e.Status != http.StatusUnauthorized {
		return nil
	}
	return err
}

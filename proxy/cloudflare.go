package proxy

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
)

//go:embed cloudflare.txt
var cloudflareList string

// cloudflareAPI is where Cloudflare publishes its ranges; it asks for no key.
const cloudflareAPI = "https://api.cloudflare.com/client/v4"

// embeddedCloudflareRanges are the ranges known when this program was built.
func embeddedCloudflareRanges() []netip.Prefix {
	var ranges []netip.Prefix
	for line := range strings.Lines(cloudflareList) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			ranges = append(ranges, netip.MustParsePrefix(line)) // a test parses the list
		}
	}
	return ranges
}

// FetchCloudflareRanges asks Cloudflare's API for the ranges it connects from
// now. baseURL ends with the API's version; "" is the public API. What cannot
// be Cloudflare's, such as half of the internet, is an error: whoever is in a
// range may name any client.
func FetchCloudflareRanges(ctx context.Context, client *http.Client, baseURL string) ([]netip.Prefix, error) {
	if baseURL == "" {
		baseURL = cloudflareAPI
	}
	ranges, err := fetchRanges(ctx, client, strings.TrimSuffix(baseURL, "/")+"/ips")
	if err != nil {
		return nil, fmt.Errorf("fetch Cloudflare's address ranges: %w", err)
	}
	return ranges, nil
}

func fetchRanges(ctx context.Context, client *http.Client, url string) ([]netip.Prefix, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s", url, res.Status)
	}
	var answer struct {
		Success bool `json:"success"`
		Result  struct {
			IPv4 []netip.Prefix `json:"ipv4_cidrs"`
			IPv6 []netip.Prefix `json:"ipv6_cidrs"`
		} `json:"result"`
	}
	const limit = 64 << 10 // the answer has 1 KiB
	if err := json.NewDecoder(io.LimitReader(res.Body, limit)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	ranges := append(answer.Result.IPv4, answer.Result.IPv6...)
	if !answer.Success || len(ranges) == 0 {
		return nil, errors.New(url + " answered without ranges")
	}
	for _, p := range ranges {
		if p.Bits() < widestRange(p.Addr()) {
			return nil, fmt.Errorf("%s: %s is too wide to be Cloudflare's", url, p)
		}
	}
	return ranges, nil
}

// widestRange is the shortest prefix that we believe to be one network's. The
// widest of today are a /13 and a /29.
func widestRange(a netip.Addr) int {
	if a.Is4() {
		return 8
	}
	return 20
}

package acme

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// publicAPI is the base that libdns/cloudflare has built in.
const publicAPI = "https://api.cloudflare.com/client/v4"

// apiClient speaks Cloudflare's v4 API. It is the HTTP client below
// libdns/cloudflare, which has neither retries nor time limits and loses the
// status of an answer that is not JSON: whatever is not a success becomes an
// *apiError here.
type apiClient struct {
	base *url.URL
	http *http.Client
}

// newAPIClient returns a client for base, "" = the public API.
func newAPIClient(base string) (*apiClient, error) {
	if base == "" {
		base = publicAPI
	}
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("CLOUDFLARE_BASE_URL: %q is not an http or https URL", base)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() // HTTP_PROXY honoured
	// The API answers within a second or two; its own gateway gives up at 20 s.
	return &apiClient{base: u, http: &http.Client{Transport: transport, Timeout: 20 * time.Second}}, nil
}

func (c *apiClient) close() { c.http.CloseIdleConnections() }

// Do sends a request made for publicAPI to the client's base. It tries again on
// 429 and 5xx, and after a broken connection unless the request may have been
// carried out: a second POST could make a second record.
func (c *apiClient) Do(req *http.Request) (*http.Response, error) {
	path := strings.TrimPrefix(req.URL.Path, "/client/v4")
	req.URL.Scheme, req.URL.Host, req.URL.Path, req.URL.RawPath = c.base.Scheme, c.base.Host, c.base.Path+path, ""
	req.Host = ""
	// 3.75 s in all: longer troubles are for the retry schedule above.
	pauses := []time.Duration{250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second}
	for try := 0; ; try++ {
		if try > 0 && req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			req.Body = body
		}
		resp, wait, err := c.once(req)
		if err == nil || wait < 0 || try == len(pauses) {
			return resp, err
		}
		timer := time.NewTimer(max(wait, pauses[try]))
		select {
		case <-timer.C:
		case <-req.Context().Done():
			timer.Stop()
			return nil, err
		}
	}
}

// once makes one attempt. With an error, wait says how long the API wants to be
// left alone; negative = trying again is useless or dangerous.
func (c *apiClient) once(req *http.Request) (resp *http.Response, wait time.Duration, err error) {
	resp, err = c.http.Do(req)
	if err != nil {
		err = redact(err, req)
		op, ok := errors.AsType[*net.OpError](err)
		unsent := ok && op.Op == "dial"
		if req.Context().Err() != nil || req.Method == http.MethodPost && !unsent {
			return nil, -1, err
		}
		return nil, 0, err
	}
	// 1000 records of a page fit many times.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	resp.Body.Close()
	if err != nil {
		if req.Method == http.MethodPost {
			return nil, -1, fmt.Errorf("read Cloudflare's answer: %w", err)
		}
		return nil, 0, fmt.Errorf("read Cloudflare's answer: %w", err)
	}
	if apiErr := readAPIError(resp.StatusCode, body); apiErr != nil {
		apiErr.Message = hide(apiErr.Message, req)
		if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode < 500 {
			return nil, -1, apiErr
		}
		return nil, retryAfter(resp.Header), apiErr
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, 0, nil
}

// retryAfter reads Retry-After (RFC 9110 section 10.2.3); negative when it asks
// for more patience than one order should have.
func retryAfter(h http.Header) time.Duration {
	const patience = 30 * time.Second
	value := h.Get("Retry-After")
	wait := time.Duration(0)
	if seconds, err := strconv.Atoi(value); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = max(0, time.Until(at))
	}
	if wait > patience {
		return -1
	}
	return wait
}

// hide takes the token of req out of text: an API may echo what it was sent.
func hide(text string, req *http.Request) string {
	if token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "); token != "" {
		text = strings.ReplaceAll(text, token, "(token)")
	}
	return text
}

func redact(err error, req *http.Request) error {
	if text := hide(err.Error(), req); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// envelope is the shape of every answer.
type envelope struct {
	Success    bool            `json:"success"`
	Errors     []apiProblem    `json:"errors"`
	Result     json.RawMessage `json:"result"`
	ResultInfo struct {
		TotalPages int `json:"total_pages"`
	} `json:"result_info"`
}

type apiProblem struct {
	Code       int          `json:"code"`
	Message    string       `json:"message"`
	ErrorChain []apiProblem `json:"error_chain"`
}

// apiError is an answer of Cloudflare's API that is not a success.
type apiError struct {
	Status  int
	Codes   []int // of the problems and of their causes
	Message string
}

func (e *apiError) Error() string {
	return fmt.Sprintf("Cloudflare answered HTTP %d: %s", e.Status, e.Message)
}

// hasCode reports whether err is an answer of the API with that code.
func hasCode(err error, code int) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && slices.Contains(e.Codes, code)
}

var htmlTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// readAPIError returns nil when the answer is a success.
func readAPIError(status int, body []byte) *apiError {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		text := string(body)
		if title := htmlTitle.FindStringSubmatch(text); title != nil {
			text = "a web page titled " + strconv.Quote(strings.TrimSpace(title[1]))
		}
		return &apiError{Status: status, Message: "not JSON but: " + shorten(text)}
	}
	if status < 400 && len(e.Errors) == 0 {
		return nil
	}
	out := &apiError{Status: status}
	var texts []string
	var walk func([]apiProblem)
	walk = func(problems []apiProblem) {
		for _, p := range problems {
			out.Codes = append(out.Codes, p.Code)
			texts = append(texts, fmt.Sprintf("%s (%d)", p.Message, p.Code))
			walk(p.ErrorChain)
		}
	}
	walk(e.Errors)
	out.Message = shorten(strings.Join(texts, "; "))
	return out
}

// shorten makes text fit a log line.
func shorten(text string) string {
	const most = 300
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// zone is a DNS zone that a token can see.
type zone struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	NameServers []string `json:"name_servers"`
}

// zones lists every zone that token can see.
func (c *apiClient) zones(ctx context.Context, token string) ([]zone, error) {
	var all []zone
	for page := 1; ; page++ {
		var some []zone
		info, err := c.call(ctx, http.MethodGet, token, fmt.Sprintf("/zones?per_page=50&page=%d", page), &some)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) == 0 || page >= info.ResultInfo.TotalPages {
			return all, nil
		}
	}
}

// call makes a request without a body and decodes the answer's result.
func (c *apiClient) call(ctx context.Context, method, token, path string, result any) (envelope, error) {
	req, err := http.NewRequestWithContext(ctx, method, publicAPI+path, nil)
	if err != nil {
		return envelope{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.Do(req)
	if err != nil {
		return envelope{}, err
	}
	defer resp.Body.Close()
	var e envelope
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil {
		return e, fmt.Errorf("read Cloudflare's answer: %w", err)
	}
	if err := json.Unmarshal(e.Result, result); err != nil {
		return e, fmt.Errorf("read Cloudflare's answer: %w", err)
	}
	return e, nil
}

// zoneOf finds the zone that holds name: the longest suffix among zones.
func zoneOf(name string, zones []zone) (zone, bool) {
	var best zone
	for _, z := range zones {
		if (name == z.Name || strings.HasSuffix(name, "."+z.Name)) && len(z.Name) > len(best.Name) {
			best = z
		}
	}
	return best, best.Name != ""
}

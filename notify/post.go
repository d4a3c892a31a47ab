package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// post returns a function that tries to send one notice to t.URL, and says when it
// wants to be called again; 0 = never.
func (n *Notifier) post(t Target, notice Notice) func(context.Context) time.Duration {
	try, pause := 0, firstPause
	return func(ctx context.Context) time.Duration {
		try++
		hope, err := n.postOnce(ctx, t, notice)
		switch {
		case err == nil:
			return 0
		case hope && try < tries:
			again := pause
			pause = min(2*pause, longPause)
			return again
		}
		n.log.Warn("a notice was not delivered", "event", notice.Event, "host", notice.Host, "tries", try, "error", err)
		return 0
	}
}

// postOnce reports why a notice was not taken, and whether another try may
// succeed. The URL, which may be all that protects a channel from strangers,
// is not in the error.
func (n *Notifier) postOnce(ctx context.Context, t Target, notice Notice) (hope bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, postLimit)
	defer cancel()
	body, contentType := []byte(notice.text()), "text/plain; charset=utf-8"
	if t.Format == FormatJSON {
		body, contentType = notice.json(), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.URL, bytes.NewReader(body))
	if err != nil {
		return false, withoutURL(err)
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "detour")
	if t.Format != FormatJSON {
		req.Header.Set("Title", "detour: "+notice.Host+" "+notice.Event)
	}
	res, err := n.client.Do(req)
	if err != nil {
		return true, withoutURL(err)
	}
	defer res.Body.Close()
	const enough = 4 << 10 // of an answer that nobody needs, so that the connection can be used again
	_, _ = io.CopyN(io.Discard, res.Body, enough)
	if res.StatusCode/100 == 2 {
		return false, nil
	}
	if res.StatusCode/100 == 3 {
		return false, fmt.Errorf("the server answered %s, which is not followed; use the URL that it leads to", res.Status)
	}
	again := res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusRequestTimeout
	return again, fmt.Errorf("the server answered %s", res.Status)
}

// withoutURL takes the URL off an error of net/http.
func withoutURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

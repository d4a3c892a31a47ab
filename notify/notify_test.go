package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"detour/notify"

	"github.com/google/go-cmp/cmp"
)

var notice = notify.Notice{
	Event:  "offline",
	Host:   "shop.example.test",
	Text:   "shop.example.test is offline: grüße \"; rm -rf /",
	Cause:  "window",
	Reason: "grüße \"; rm -rf /\x00\x1b[2J\a\n\u202e",
	Until:  time.Date(2026, 11, 30, 23, 30, 0, 0, time.UTC),
	Time:   time.Date(2025, 11, 30, 22, 0, 0, 0, time.UTC),
}

func TestPost(t *testing.T) {
	type request struct{ Method, ContentType, Title, Body string }
	got := make(chan request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.Method, r.Header.Get("Content-Type"), r.Header.Get("Title"), string(body)}
	}))
	defer s.Close()
	asJSON, _ := json.Marshal(notice)
	fresh := notice
	fresh.Time = time.Time{} // now
	strange := fresh
	strange.Text = "shop is offline (\x00\x1b[2J\a\r\nTitle: \u202e 閉店\u3000🛠)"
	for _, test := range []struct {
		format notify.Format
		notice notify.Notice
		want   request
	}{
		{notify.FormatText, fresh, request{"POST", "text/plain; charset=utf-8", "detour: shop.example.test offline", notice.Text}},
		{notify.FormatText, strange, request{"POST", "text/plain; charset=utf-8", "detour: shop.example.test offline", "shop is offline (\\x00\\x1b[2J\\a\\r\\nTitle: \\u202e 閉店\u3000🛠)"}},
		{notify.FormatText, notice, request{"POST", "text/plain; charset=utf-8", "detour: shop.example.test offline", notice.Text + " (2025-11-30 22:00 UTC)"}},
		{notify.FormatJSON, notice, request{"POST", "application/json", "", string(asJSON)}},
	} {
		n := notify.New(notify.Options{})
		n.Send(notify.Target{URL: s.URL + "/topic", Format: test.format}, test.notice)
		n.Close(t.Context())
		if diff := cmp.Diff(test.want, <-got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.format, diff)
		}
	}
}

func TestCommand(t *testing.T) {
	t.Setenv("CLOUDFLARE_API_TOKEN", "secret")
	file := filepath.Join(t.TempDir(), "out")
	n := notify.New(notify.Options{})
	n.Send(notify.Target{Command: []string{"sh", "-c", `{ cat; echo; env; } > "$1"`, "sh", file}}, notice)
	n.Close(t.Context())
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	stdin, env, _ := strings.Cut(string(data), "\n")
	var got notify.Notice
	if err := json.Unmarshal([]byte(stdin), &got); err != nil || got != notice {
		t.Errorf("standard input = %q, %v; want the notice as JSON", stdin, err)
	}
	for _, want := range []string{"DETOUR_EVENT=offline", "DETOUR_HOST=shop.example.test", `DETOUR_REASON=grüße "; rm -rf /\x00\x1b[2J\a\n\u202e`, "DETOUR_UNTIL=2026-11-30T23:30:00Z", "PATH="} {
		if !strings.Contains("\n"+env, "\n"+want) {
			t.Errorf("the environment lacks %s:\n%s", want, env)
		}
	}
	if strings.Contains(env, "secret") {
		t.Errorf("the environment holds the gateway's secrets:\n%s", env)
	}
}

// What goes wrong is logged with what the command said, never with the URL.
func TestFailuresAreLogged(t *testing.T) {
	var log strings.Builder
	n := notify.New(notify.Options{
		Log:       slog.New(slog.NewTextHandler(&log, nil)),
		Transport: answers(func(*http.Request) (*http.Response, error) { return status(403), nil }),
	})
	n.Send(notify.Target{URL: "https://example.test/secret-topic"}, notice)
	n.Close(t.Context())
	n = notify.New(notify.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	n.Send(notify.Target{Command: []string{"sh", "-c", "echo the modem is on fire >&2; exit 3"}}, notice)
	n.Close(t.Context())
	for _, want := range []string{"403", "the modem is on fire", "exit status 3"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("the log holds the URL:\n%s", &log)
	}
}

// A server that hangs holds up neither the sender nor the command, and Close
// gives up when its context ends.
func TestServerThatHangs(t *testing.T) {
	hung := make(chan struct{}, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body) // else the end of the connection goes unnoticed
		hung <- struct{}{}
		<-r.Context().Done()
	}))
	defer s.Close()
	file := filepath.Join(t.TempDir(), "out")
	n := notify.New(notify.Options{})
	began := time.Now()
	for range 1000 {
		n.Send(notify.Target{URL: s.URL}, notice)
	}
	n.Send(notify.Target{URL: s.URL, Command: []string{"touch", file}}, notice)
	if took := time.Since(began); took > 5*time.Second { // of the ten that one is given
		t.Errorf("1001 notices took %s; want no waiting", took)
	}
	<-hung
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the command waits for the server that hangs")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	closed := make(chan struct{})
	go func() { n.Close(ctx); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close() waits for the server that hangs")
	}
}

func TestRetries(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer func(try int, r *http.Request) (*http.Response, error)
		tries  int
	}{
		{"taken", func(int, *http.Request) (*http.Response, error) { return status(200), nil }, 1},
		{"refused for good", func(int, *http.Request) (*http.Response, error) { return status(404), nil }, 1},
		{"redirected", func(int, *http.Request) (*http.Response, error) { return status(302), nil }, 1},
		{"busy twice", func(try int, _ *http.Request) (*http.Response, error) {
			return status(map[bool]int{true: 429, false: 200}[try <= 2]), nil
		}, 3},
		{"no way out at first", func(try int, _ *http.Request) (*http.Response, error) {
			if try <= 4 {
				return nil, errors.New("network is unreachable")
			}
			return status(200), nil
		}, 5},
		{"hangs for ever", func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, 8},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				var log strings.Builder
				n := notify.New(notify.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Transport: answers(func(r *http.Request) (*http.Response, error) {
					tries++
					return test.answer(tries, r)
				})})
				began := time.Now()
				n.Send(notify.Target{URL: "https://example.test/"}, notice)
				n.Close(t.Context())
				if took := time.Since(began); tries != test.tries || took > 10*time.Minute {
					t.Errorf("%d tries in %s; want %d in less than ten minutes", tries, took, test.tries)
				}
				if hint := "use the URL that it leads to"; strings.Contains(log.String(), hint) != (test.name == "redirected") {
					t.Errorf("the log says %q; want %q for a redirect alone", &log, hint)
				}
			})
		})
	}
}

// The notices arrive in their order; of too many the oldest are left out.
func TestOrderAndBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var got []string
		release := make(chan struct{})
		n := notify.New(notify.Options{Transport: answers(func(r *http.Request) (*http.Response, error) {
			<-release
			body, _ := io.ReadAll(r.Body)
			mu.Lock()
			defer mu.Unlock()
			got = append(got, string(body))
			return status(200), nil
		})})
		n.Send(notify.Target{URL: "https://example.test/"}, notify.Notice{Text: "first"})
		synctest.Wait() // it is under way
		for i := range 300 {
			n.Send(notify.Target{URL: "https://example.test/"}, notify.Notice{Text: string(rune('一' + i))})
		}
		close(release)
		n.Close(t.Context())
		n.Send(notify.Target{URL: "https://example.test/"}, notice) // nothing happens any more
		synctest.Wait()
		if len(got) != 129 || got[0] != "first" || got[1] != string(rune('一'+172)) || got[128] != string(rune('一'+299)) {
			t.Errorf("%d notices arrived, %.3q to %q; want the first and the last 128", len(got), got, got[len(got)-1])
		}
	})
}

// A notice that waits for its next try is passed by those of other hosts, not
// by a newer one of its own.
func TestRetryHoldsBackItsHostAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		began := time.Now()
		n := notify.New(notify.Options{Transport: answers(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			if strings.HasPrefix(string(body), "shop") && time.Since(began) < 20*time.Second {
				return status(503), nil
			}
			got = append(got, fmt.Sprintf("%s after %s", body, time.Since(began)))
			return status(200), nil
		})})
		send := func(host, text string) {
			n.Send(notify.Target{URL: "https://example.test/"}, notify.Notice{Host: host, Text: text})
		}
		send("shop", "shop 1")
		send("blog", "blog 1")
		time.Sleep(time.Second)
		send("shop", "shop 2")
		send("blog", "blog 2")
		n.Close(t.Context())
		want := []string{"blog 1 after 0s", "blog 2 after 1s", "shop 1 after 21s", "shop 2 after 21s"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("notices (-want +got):\n%s", diff)
		}
	})
}

// What waits at the end is not lost without a word.
func TestCloseSaysWhatIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		n := notify.New(notify.Options{
			Log:       slog.New(slog.NewTextHandler(&log, nil)),
			Transport: answers(func(*http.Request) (*http.Response, error) { return nil, errors.New("network is unreachable") }),
		})
		for _, host := range []string{"shop", "blog", "blog"} {
			n.Send(notify.Target{URL: "https://example.test/"}, notify.Notice{Host: host})
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		n.Close(ctx)
		if !strings.Contains(log.String(), `msg="notices still waited at the end and were not delivered" count=3`) {
			t.Errorf("the log says %q; want that three are lost", &log)
		}
	})
}

type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := f(r)
	if res != nil {
		res.Request = r
	}
	return res, err
}

func status(code int) *http.Response {
	return &http.Response{
		StatusCode: code,
		Status:     fmt.Sprint(code),
		Header:     http.Header{"Location": {"https://elsewhere.test/"}}, // only to be followed when it must not be
		Body:       http.NoBody,
	}
}

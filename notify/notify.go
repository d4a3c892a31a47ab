// Package notify tells people what happened, by a POST to a URL and by running a
// command. Nobody waits for it: notices are in bounded queues and are sent in the
// background, those about one host in order.
package notify

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Notice is something that people want to know. Its JSON is what a URL with
// FormatJSON and a command get.
type Notice struct {
	Event  string    `json:"event"`            // one lower-case word, as "offline"
	Host   string    `json:"host"`             // whom it is about
	Text   string    `json:"text"`             // the whole of it in one line
	Cause  string    `json:"cause,omitempty"`  // one lower-case word
	Reason string    `json:"reason,omitempty"` // the operator's words; they may hold anything
	Until  time.Time `json:"until,omitzero"`   // the announced end
	Time   time.Time `json:"time"`             // when it happened, in the zone of its readers; zero = now
}

// Target is where a notice goes; either, both or none.
type Target struct {
	URL     string   // gets a POST; it may hold a secret and is never logged
	Format  Format   // of the POST's body
	Command []string // program and arguments; the program is searched in PATH
}

// IsZero reports whether nobody is told.
func (t Target) IsZero() bool { return t.URL == "" && len(t.Command) == 0 }

// Format is how a notice is written for a URL.
type Format string

// The Formats. "" is FormatText.
const (
	FormatText Format = "text" // Text as the body, with the time if it is late, and a Title header, which ntfy shows
	FormatJSON Format = "json"
)

const (
	// postLimit is for one try: a server on the other side of the world answers
	// within two seconds, one that takes ten has a problem.
	postLimit = 10 * time.Second
	// commandLimit is for a command, which may send a mail or talk to a modem.
	commandLimit = time.Minute
	// tries and the pauses between them take over five minutes, within which a
	// router's connection to the internet is usually back.
	tries      = 8
	firstPause = 3 * time.Second
	longPause  = 2 * time.Minute
	// late is the delay after which a text says when it happened.
	late = time.Minute
	// waiting is how many notices a queue holds, more than a small site has hosts.
	// Beyond it the oldest is dropped, because the newest says how things are.
	waiting = 128
)

// Options are what a Notifier needs.
type Options struct {
	Log       *slog.Logger      // learns of notices that could not be sent; nil = nobody does
	Transport http.RoundTripper // nil = http.DefaultTransport
}

// Notifier sends notices. It has no goroutine while there is nothing to send.
// It may be used by several goroutines at once.
type Notifier struct {
	log    *slog.Logger
	client *http.Client
	posts  *queue // separate, so that a server that hangs does not hold back the command
	runs   *queue
	cancel context.CancelFunc
}

// New makes a Notifier. Close ends it.
func New(o Options) *Notifier {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Notifier{log: o.Log, posts: newQueue(ctx), runs: newQueue(ctx), cancel: cancel}
	n.client = &http.Client{
		Transport: o.Transport,
		// A POST that follows a 302 becomes a GET and tells nobody.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return n
}

// Send puts a notice on its way to t and returns at once. After Close it does
// nothing.
func (n *Notifier) Send(t Target, notice Notice) {
	if notice.Time.IsZero() {
		notice.Time = time.Now()
	}
	overflows := false
	if t.URL != "" {
		overflows = n.posts.add(notice.Host, n.post(t, notice))
	}
	if len(t.Command) > 0 {
		overflows = n.runs.add(notice.Host, n.run(t.Command, notice)) || overflows
	}
	if overflows {
		n.log.Warn("too many notices are waiting, the oldest are dropped", "limit", waiting)
	}
}

// Close takes no more notices. Those that wait are sent until ctx ends; the log says
// how many were not. It returns when nothing is under way any more.
func (n *Notifier) Close(ctx context.Context) {
	stop := context.AfterFunc(ctx, n.cancel)
	defer stop()
	lost := n.posts.close() + n.runs.close()
	n.cancel()
	if lost > 0 {
		n.log.Warn("notices still waited at the end and were not delivered", "count", lost)
	}
}

// text is the body of a POST with FormatText that is sent now.
func (notice Notice) text() string {
	if time.Since(notice.Time) < late {
		return plain(notice.Text)
	}
	return plain(notice.Text) + " (" + notice.Time.Format("2006-01-02 15:04 MST") + ")"
}

// json is the body of a POST with FormatJSON, and the standard input of a command.
func (notice Notice) json() []byte {
	data, err := json.Marshal(notice)
	if err != nil {
		return []byte("{}") // strings and times of four-digit years always can be encoded
	}
	return data
}

// plain escapes control characters and those that change the direction of writing:
// a reason may hold anything, and ends up in terminals and on phones.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsGraphic(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

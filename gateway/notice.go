package gateway

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"detour/acme"
	"detour/config"
	"detour/notify"
	"detour/state"
)

// The words of Notice.Event.
const (
	eventOnline      = "online"
	eventDraining    = "draining"
	eventOffline     = "offline"
	eventOverran     = "overran"
	eventForgotten   = "forgotten"
	eventCertificate = "certificate"
)

const (
	// overrunPatience is how long after the end of a window people are told that
	// the upstream does not answer: a probe takes a moment.
	overrunPatience = 5 * time.Second
	// certificateCheck is how often certificates are looked at for a notice.
	certificateCheck = 10 * time.Minute
	// certificateEnd is how long before its end a certificate is worth a notice.
	// Renewal is due twenty days earlier.
	certificateEnd = 10 * 24 * time.Hour
	// certificateRepeat is the time between two notices about one certificate.
	certificateRepeat = 24 * time.Hour
)

// noticeBoard remembers what people were told. It is guarded by Gateway.reloading.
type noticeBoard struct {
	notifier     *notify.Notifier
	overran      map[string]time.Time // by host, since when it has overrun
	forgotten    map[string]reminder  // by host
	certificates map[string]time.Time // by host, when the last notice was sent
	looked       time.Time            // when the certificates were last looked at
}

// reminder is a notice, sent at a time, about a host offline since another: one that
// has been online meanwhile is offline since later.
type reminder struct{ since, at time.Time }

func newNoticeBoard(n *notify.Notifier) noticeBoard {
	return noticeBoard{
		notifier:     n,
		overran:      make(map[string]time.Time),
		forgotten:    make(map[string]reminder),
		certificates: make(map[string]time.Time),
	}
}

// target is who is told, as the configuration says.
func target(cfg *config.Config) notify.Target {
	return notify.Target{URL: cfg.Notify.URL, Format: notify.Format(cfg.Notify.Format), Command: cfg.Notify.Command}
}

// tell says what changed between old and next, in the log and to people. It does not
// wait. That a window is over and its host waits for the upstream is not worth a
// line yet: usually that takes a moment.
func (k *keeper) tell(old, next *snapshot) {
	for i := range next.config.Hosts {
		name := next.config.Hosts[i].Name
		was, known := old.conditions[name]
		is := next.conditions[name]
		if !known || was.Serving == is.Serving && was.Cause == is.Cause {
			continue
		}
		if was.Serving != is.Serving || is.Cause != state.ByOverrun {
			k.g.log.Info("host changed its state", conditionAttributes(name, is)...)
		}
		if was.Serving != is.Serving {
			k.send(next.config, notice(next.config, name, is))
		}
	}
}

func (k *keeper) send(cfg *config.Config, n notify.Notice) {
	n.Time = time.Now().In(cfg.TimeZone)
	k.board.notifier.Send(target(cfg), n)
}

// notice tells of a host's new state.
func notice(cfg *config.Config, host string, c condition) notify.Notice {
	n := notify.Notice{Host: host, Cause: string(c.Cause), Reason: c.Reason, Until: c.Until}
	switch c.Serving {
	case state.Online:
		n.Event, n.Text = eventOnline, host+" is online again"
		return n
	case state.Draining:
		n.Event, n.Text = eventDraining, host+" is going offline, running sessions may finish until "+clock(cfg, c.DrainUntil)
	case state.Offline:
		n.Event, n.Text = eventOffline, host+" is offline"
	}
	n.Text += ": " + why(cfg, c)
	return n
}

// why puts a cause into words.
func why(cfg *config.Config, c condition) string {
	text := ""
	switch c.Cause {
	case state.ByFlag:
		text = "the operator took it offline"
	case state.ByAll:
		text = "the operator took all hosts offline"
	case state.ByWindow:
		text = "maintenance"
	case state.ByOverrun:
		text = "its maintenance is over, but its upstream does not answer"
	case state.ByHealth:
		text = "its upstream is unhealthy"
	}
	if !c.Until.IsZero() {
		text += " until " + clock(cfg, c.Until)
	}
	if c.Reason != "" {
		text += " (" + strings.Join(strings.Fields(c.Reason), " ") + ")" // in one line
	}
	return text
}

// clock writes a time as the operator's clock shows it.
func clock(cfg *config.Config, t time.Time) string {
	return t.In(cfg.TimeZone).Format("2006-01-02 15:04 MST")
}

func conditionAttributes(host string, c condition) []any {
	list := []any{"host", host, "state", c.Serving.String()}
	if c.Cause != "" {
		list = append(list, "cause", string(c.Cause))
	}
	if !c.Until.IsZero() {
		list = append(list, "until", c.Until)
	}
	if c.Reason != "" {
		list = append(list, "reason", c.Reason)
	}
	return list
}

// remind tells people of what lasts too long, and returns when to look again; zero =
// nothing is due later. The caller holds reloading.
func (k *keeper) remind(snap *snapshot, now time.Time) time.Time {
	var next time.Time
	for i := range snap.config.Hosts {
		h := &snap.config.Hosts[i]
		next = earliest(next, k.remindOverrun(snap, h, now), k.remindForgotten(snap, h, now))
	}
	return earliest(next, k.remindCertificates(snap, now))
}

// remindOverrun tells once that a window is over and the upstream is not back.
func (k *keeper) remindOverrun(snap *snapshot, h *config.Host, now time.Time) time.Time {
	host := k.hosts[h.Name]
	if host.returning.IsZero() || k.board.overran[h.Name].Equal(host.returning) {
		return time.Time{}
	}
	if due := host.returning.Add(overrunPatience); now.Before(due) {
		return due
	}
	k.board.overran[h.Name] = host.returning
	k.g.log.Warn("maintenance overran, the host stays offline until its upstream answers", "host", h.Name, "since", host.returning)
	k.send(snap.config, notify.Notice{
		Event: eventOverran, Host: h.Name, Cause: string(state.ByOverrun),
		Text: h.Name + " stays offline: " + why(snap.config, condition{State: state.State{Cause: state.ByOverrun}}),
	})
	return time.Time{}
}

// remindForgotten tells of a host that the operator took offline long ago although
// its upstream is healthy, and again after the same time.
func (k *keeper) remindForgotten(snap *snapshot, h *config.Host, now time.Time) time.Time {
	due := k.forgottenAt(snap, h.Name)
	if due.IsZero() || now.Before(due) {
		return due
	}
	if k.health(snap, h) != state.Healthy {
		return time.Time{} // its check nudges the keeper when that changes
	}
	since := k.hosts[h.Name].since
	k.board.forgotten[h.Name] = reminder{since, now}
	k.send(snap.config, notify.Notice{
		Event: eventForgotten, Host: h.Name, Cause: string(snap.conditions[h.Name].Cause),
		Text: fmt.Sprintf("%s has been offline since %s although its upstream answers; was it forgotten?", h.Name, clock(snap.config, byNow(since, now))),
	})
	return k.forgottenAt(snap, h.Name)
}

// forgottenAt is when a reminder of the host is due; zero = never, in this state.
func (k *keeper) forgottenAt(snap *snapshot, name string) time.Time {
	c := snap.conditions[name]
	after := snap.config.Notify.ForgottenAfter
	if after == 0 || target(snap.config).IsZero() || c.Serving != state.Offline || c.Cause != state.ByFlag && c.Cause != state.ByAll {
		return time.Time{}
	}
	since := k.hosts[name].since
	if told, ok := k.board.forgotten[name]; ok && told.since.Equal(since) {
		return told.at.Add(after)
	}
	return since.Add(after)
}

// remindCertificates tells of certificates that browsers warn of, or soon will, at
// most once a day each.
func (k *keeper) remindCertificates(snap *snapshot, now time.Time) time.Time {
	if target(snap.config).IsZero() {
		return time.Time{}
	}
	b := &k.board
	if due := b.looked.Add(certificateCheck); now.Before(due) {
		return due
	}
	b.looked = now
	for _, c := range k.g.manager.Status() {
		trouble := certificateTrouble(snap.config, c, now)
		if trouble == "" {
			delete(b.certificates, c.Host)
			continue
		}
		if told := b.certificates[c.Host]; now.Sub(told) < certificateRepeat {
			continue
		}
		b.certificates[c.Host] = now
		k.send(snap.config, notify.Notice{
			Event: eventCertificate, Host: c.Host, Cause: string(c.State), Until: c.NotAfter,
			Text: "the certificate of " + c.Host + " " + trouble,
		})
	}
	return now.Add(certificateCheck)
}

// certificateTrouble says what is wrong with c; "" = nothing. An authority's
// certificate that is near its end is trouble only if its renewal fails: some live
// for less than ten days altogether.
func certificateTrouble(cfg *config.Config, c acme.Certificate, now time.Time) string {
	near := !c.NotAfter.IsZero() && c.NotAfter.Sub(now) < certificateEnd
	switch {
	case c.State == acme.StateExpired:
		return "has expired: " + cmp.Or(c.Error, "it was not renewed")
	case c.State == acme.StateFailing:
		return "cannot be had: " + cmp.Or(c.Error, "the order failed")
	case near && c.State == acme.StateOwn, near && c.State == acme.StateValid && c.Error != "":
		return "ends on " + clock(cfg, c.NotAfter) + ": " + cmp.Or(c.Error, "put a new one in its place")
	}
	return ""
}

// lastNotices is how long waiting notices may still be sent at the end.
const lastNotices = time.Second

// close ends the notices. It is the last that is heard of the keeper.
func (k *keeper) close() {
	ctx, cancel := context.WithTimeout(context.Background(), lastNotices)
	defer cancel()
	k.board.notifier.Close(ctx)
}

package main

import (
	"fmt"
	"strings"

	"detour/control"
)

func state(online bool) string {
	if online {
		return "online"
	}
	return "offline"
}

// standing is a host's state and until when: "offline until 23:30 AEDT".
func standing(h *control.Host, c clock) string {
	s := h.State
	if h.State == "draining" && !h.DrainUntil.IsZero() {
		s += " until " + c.show(h.DrainUntil)
		if !h.Until.IsZero() {
			s += ", then offline"
		}
	}
	if h.State != "online" && !h.Until.IsZero() {
		s += " until " + c.show(h.Until)
	}
	return s
}

// because says in a few words why a host is not online; "" while it is.
func because(h *control.Host) string {
	switch h.Cause {
	case "":
		return ""
	case "window":
		if h.Reason == "" {
			return "maintenance"
		}
		return "maintenance: " + h.Reason
	case "all":
		return "all hosts are"
	case "overran":
		return "overran: upstream silent"
	case "health":
		return "upstream unhealthy"
	}
	return h.Cause
}

// nevertheless explains a state that is not what was asked for.
func nevertheless(h *control.Host) string {
	switch h.Cause {
	case "health":
		return "its upstream is unhealthy; it comes back by itself when it is well again"
	case "overran":
		return "its maintenance is over, but its upstream has not answered since"
	}
	return "somebody has changed that again"
}

// visitors says where the visitors of a host end up.
func visitors(h *control.Host) string {
	page := strings.NewReplacer("{uri}", "", "{host}", h.Host).Replace(h.StatusPage)
	switch h.State {
	case "online":
		return "visitors reach " + h.Upstream
	case "draining":
		return "running sessions go on, new visitors go to " + page
	}
	return "visitors go to " + page
}

// sentence says all about the state of a host.
func sentence(h *control.Host, c clock) string {
	s := h.Host + " is " + standing(h, c)
	if why := because(h); why != "" {
		s += " (" + why + ")"
	}
	s += ": " + visitors(h)
	if h.State == "draining" {
		s += "; " + counts(h)
	}
	return s
}

// counts says what keeps a host from being quiet.
func counts(h *control.Host) string {
	return fmt.Sprintf("%s in flight, %s, %s open", inFlight(h), count(int(h.Sessions), "session request"), count(int(h.Streams), "stream"))
}

// planned says when a host goes offline next; "" = nothing is planned.
func planned(h *control.Host, c clock) string {
	w := h.Next
	if w == nil {
		return ""
	}
	s := fmt.Sprintf("%s goes offline at %s until %s", h.Host, c.show(w.From), c.show(w.Until))
	if w.Begin.Before(w.From) {
		s += ", draining from " + c.show(w.Begin)
	}
	if w.Reason != "" {
		s += " (" + w.Reason + ")"
	}
	return s
}

package gateway

import (
	"context"
	"fmt"
	"time"

	"detour/state"

	"github.com/coreos/go-systemd/v22/daemon"
)

// The gateway tells its service manager how it is, as sd_notify(3) says.

func (g *Gateway) notifyReady() {
	g.options.Notify(daemon.SdNotifyReady + "\n" + g.stateLine())
}

// notifyState tells what changed while nothing was reloaded.
func (g *Gateway) notifyState() { g.options.Notify(g.stateLine()) }

func (g *Gateway) stateLine() string {
	snap := g.current.Load()
	offline := 0
	for _, c := range snap.conditions {
		if c.Serving != state.Online {
			offline++
		}
	}
	plural := "s"
	if len(snap.config.Hosts) == 1 {
		plural = ""
	}
	status := fmt.Sprintf("generation %d: %d host%s, %d offline", snap.table.Generation(), len(snap.config.Hosts), plural, offline)
	if g.refused.Load() != nil {
		status += "; the last reload was refused, see: detour status"
	}
	return "STATUS=" + status
}

// notifyReloading begins what Type=notify-reload waits for; notifyReady ends
// it, also when the configuration was refused.
func (g *Gateway) notifyReloading() {
	g.options.Notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
}

// closingTime is what the end may take once nothing is in flight: Close gives up
// after a few seconds, and a slow disk takes the last lines of the logs.
const closingTime = 20 * time.Second

// notifyStopping begins the drain. TimeoutStopSec= of the service is no longer
// than most need; a longer grace asks for more, or would end in a kill.
func (g *Gateway) notifyStopping(grace time.Duration) {
	g.options.Notify(fmt.Sprintf("%s\nEXTEND_TIMEOUT_USEC=%d", daemon.SdNotifyStopping, (grace + closingTime).Microseconds()))
}

// beat feeds the service's watchdog while something can be put in force: a
// gateway that is stuck there would otherwise look alive. One whose disk hangs
// serves on, and would have to read that disk at its start.
func (g *Gateway) beat(ctx context.Context) {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	tick := time.NewTicker(interval / 2) // as sd_watchdog_enabled(3) recommends
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.reloading.Lock() // comes through only when nothing is stuck
			g.reloading.Unlock()
			g.options.Notify(daemon.SdNotifyWatchdog)
		}
	}
}

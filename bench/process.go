//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cpuSplit says who runs where.
type cpuSplit struct{ proxy, load int }

// splitCPUs gives the last CPU this process may use to the proxies and moves
// the process itself to the first.
func splitCPUs() (cpuSplit, error) {
	var allowed unix.CPUSet
	if err := unix.SchedGetaffinity(0, &allowed); err != nil {
		return cpuSplit{}, fmt.Errorf("ask for the CPUs: %w", err)
	}
	var cpus []int
	for cpu := range 8 * int(len(allowed)) * (strconv.IntSize / 8) {
		if allowed.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) < 2 {
		return cpuSplit{}, errors.New("one CPU for the proxy and one for the load are needed, and there is only one")
	}
	split := cpuSplit{proxy: cpus[len(cpus)-1], load: cpus[0]}
	return split, pinSelf(split.load)
}

// pinSelf moves every thread of this process to one CPU. Threads to come
// inherit it; twice, because one may be born while the list is read.
func pinSelf(cpu int) error {
	for range 2 {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range threads {
			tid, err := strconv.Atoi(t.Name())
			if err != nil {
				return err
			}
			if err := pinThread(tid, cpu); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
	}
	return nil
}

// pinThread moves a thread, 0 = the calling one, to one CPU.
func pinThread(tid, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(tid, &set); err != nil {
		return fmt.Errorf("pin to CPU %d: %w", cpu, err)
	}
	return nil
}

// process is a proxy with all its workers.
type process struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the leader is gone
}

// startProcess starts cmd on the proxies' CPU, in a process group of its own.
func startProcess(cmd *exec.Cmd, cpus cpuSplit) (*process, error) {
	// An own group: Ctrl-C comes to this process alone, which then stops its
	// proxies in order, and workers can be ended together with their master.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := startPinned(cmd, cpus); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // how a proxy ends after SIGTERM is not measured; one that ends before is seen by exited
	}()
	return p, nil
}

// startPinned starts cmd from a thread on the proxies' CPU: a child inherits
// its place from the thread that made it.
func startPinned(cmd *exec.Cmd, cpus cpuSplit) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := pinThread(0, cpus.proxy); err != nil {
		return err
	}
	err := cmd.Start()
	return errors.Join(err, pinThread(0, cpus.load))
}

// stop ends the process: politely, so that it writes its log out, then surely.
func (p *process) stop() {
	group := -p.cmd.Process.Pid
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: just as well
	select {
	case <-p.exited:
	case <-time.After(15 * time.Second): // longer than any contestant drains connections that are closed
	}
	_ = syscall.Kill(group, syscall.SIGKILL) // workers that outlived their master
	<-p.exited
}

// pids are the process and all its descendants.
func (p *process) pids() ([]int, error) {
	children := map[int][]int{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	for _, path := range stats {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // ended meanwhile
		}
		// pid (comm) state ppid …: comm may hold spaces and parentheses.
		pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
		rest := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
		if len(rest) > 1 {
			parent, _ := strconv.Atoi(rest[1])
			children[parent] = append(children[parent], pid)
		}
	}
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	slices.Sort(all)
	return all, nil
}

// cpuTime is what all threads of the process and its descendants have used so
// far, user and system.
func (p *process) cpuTime() (time.Duration, error) {
	pids, err := p.pids()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range pids {
		// The CPU-time clock of another process (clock_getcpuclockid(3)): the
		// scheduler's nanoseconds, where /proc/PID/stat has ticks of 10 ms.
		const schedulerClock = 2 // CPUCLOCK_SCHED
		var ts unix.Timespec
		if err := unix.ClockGettime(int32(^pid<<3|schedulerClock), &ts); err != nil {
			return 0, fmt.Errorf("read CPU time of process %d: %w", pid, err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum, nil
}

// memory is the resident memory of the process and its descendants in bytes,
// pages they share among themselves counted once (proportional set size).
func (p *process) memory() (int64, error) {
	pids, err := p.pids()
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, pid := range pids {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			if kib, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kib), "kB")), 10, 64)
				if err != nil {
					return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
				}
				sum += n << 10
			}
		}
	}
	return sum, nil
}

// waitFor calls try each millisecond until it succeeds, the process ends or
// time is up.
func (p *process) waitFor(ctx context.Context, try func() error) error {
	// A thousand hosts with certificates and logs take the slowest contestant seconds.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(time.Millisecond):
		}
	}
}

// cpuBusy is how long a CPU was not idle since boot, whoever used it, time
// that a hypervisor took away included. Its resolution is 10 ms.
func cpuBusy(cpu int) (time.Duration, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	name := "cpu" + strconv.Itoa(cpu)
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if fields[0] != name || len(fields) < 9 {
			continue
		}
		// user nice system idle iowait irq softirq steal
		var ticks int64
		for i, field := range fields[1:9] {
			n, err := strconv.ParseInt(field, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read /proc/stat: %w", err)
			}
			if i != 3 && i != 4 {
				ticks += n
			}
		}
		return time.Duration(ticks) * (time.Second / 100), nil // USER_HZ is 100 on every Linux
	}
	return 0, fmt.Errorf("/proc/stat does not know %s", name)
}

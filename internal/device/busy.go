package device

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Busy is a snapshot of the counters that tell how busy the machine is. They only grow; two snapshots make a Load.
type Busy struct {
	at       time.Time
	stat     *cpuTimes
	throttle *[2]uint64 // periods, microseconds
	pressure *uint64    // microseconds in which some task waited for a processor
	switches map[string]uint64
	load     *[3]float64
}

// cpuTimes are the sums over all processors since boot, in clock ticks.
type cpuTimes struct{ total, idle, steal uint64 }

// Load is what happened between two snapshots. A field is nil where the machine does not count it.
type Load struct {
	Elapsed time.Duration `json:"elapsed"`
	// Steal is the share of processor time that the hypervisor gave to others, 0 to 1.
	Steal *float64 `json:"steal,omitempty"`
	// Used is the share of processor time in which some process of this machine ran, 0 to 1.
	Used *float64 `json:"used,omitempty"`
	// ThrottledPeriods counts the periods at whose end the cgroup's quota was used up; Throttled is the time its
	// threads then waited.
	ThrottledPeriods *uint64        `json:"throttled_periods,omitempty"`
	Throttled        *time.Duration `json:"throttled,omitempty"`
	// Pressure is the share of time in which some task waited for a processor, 0 to 1.
	Pressure *float64 `json:"pressure,omitempty"`
	// InvoluntarySwitches counts how often a thread of the process lost its processor to another one.
	InvoluntarySwitches *uint64 `json:"involuntary_switches,omitempty"`
	// Average is the load average over 1, 5 and 15 minutes at the later snapshot.
	Average *[3]float64 `json:"average,omitempty"`
}

// Snapshot reads the counters. Outside Linux, and without Options.Root, it knows only the time.
func Snapshot(o Options) Busy {
	b := Busy{at: time.Now()}
	if o.Root == "" && runtime.GOOS != "linux" {
		return b
	}
	t := tree{o.Root}
	b.stat = t.cpuTimes()
	if periods, micros, ok := t.cgroups(o.pid()).throttled(); ok {
		b.throttle = &[2]uint64{periods, micros}
	}
	b.pressure = t.pressure()
	b.switches = t.involuntary(o.pid())
	b.load = t.loadAverage()
	return b
}

// Since is what happened between an earlier snapshot of the same machine and process and this one.
func (b Busy) Since(earlier Busy) Load {
	l := Load{Elapsed: b.at.Sub(earlier.at), Average: b.load}
	if b.stat != nil && earlier.stat != nil {
		if total := grown(b.stat.total, earlier.stat.total); total > 0 {
			steal := min(1, float64(grown(b.stat.steal, earlier.stat.steal))/float64(total))
			used := max(0, 1-steal-float64(grown(b.stat.idle, earlier.stat.idle))/float64(total))
			l.Steal, l.Used = &steal, &used
		}
	}
	if b.throttle != nil && earlier.throttle != nil {
		periods := grown(b.throttle[0], earlier.throttle[0])
		waited := time.Duration(grown(b.throttle[1], earlier.throttle[1])) * time.Microsecond
		l.ThrottledPeriods, l.Throttled = &periods, &waited
	}
	if b.pressure != nil && earlier.pressure != nil && l.Elapsed > 0 {
		share := min(1, float64(grown(*b.pressure, *earlier.pressure))/float64(max(1, l.Elapsed.Microseconds())))
		l.Pressure = &share
	}
	if b.switches != nil && earlier.switches != nil {
		var n uint64
		for thread, count := range b.switches {
			n += grown(count, earlier.switches[thread])
		}
		l.InvoluntarySwitches = &n
	}
	return l
}

// grown is a-b, or 0 where the counter went back, as some do when a processor goes offline.
func grown(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

// cpuTimes reads the first line of /proc/stat: user nice system idle iowait irq softirq steal guest guest_nice, of which
// guest time is counted in user time too.
func (t tree) cpuTimes() *cpuTimes {
	fields := strings.Fields(t.line("proc/stat"))
	if len(fields) < 5 || fields[0] != "cpu" {
		return nil
	}
	var c cpuTimes
	for i, f := range fields[1:min(len(fields), 9)] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return nil
		}
		c.total += n
		switch i {
		case 3, 4:
			c.idle += n
		case 7:
			c.steal = n
		}
	}
	return &c
}

// pressure reads the total of the "some" line of /proc/pressure/cpu.
func (t tree) pressure() *uint64 {
	for line := range strings.Lines(t.text("proc/pressure/cpu")) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "some" {
			continue
		}
		for _, f := range fields[1:] {
			if v, ok := strings.CutPrefix(f, "total="); ok {
				if n, err := strconv.ParseUint(v, 10, 64); err == nil {
					return &n
				}
			}
		}
	}
	return nil
}

// involuntary reads the involuntary context switches of each thread of a process.
func (t tree) involuntary(pid string) map[string]uint64 {
	entries, err := os.ReadDir(t.path(filepath.Join("proc", pid, "task")))
	if err != nil {
		return nil
	}
	out := map[string]uint64{}
	for _, e := range entries {
		value := t.status(filepath.Join(pid, "task", e.Name()), "nonvoluntary_ctxt_switches")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[e.Name()] = n
		}
	}
	return out
}

func (t tree) loadAverage() *[3]float64 {
	fields := strings.Fields(t.line("proc/loadavg"))
	if len(fields) < 3 {
		return nil
	}
	var out [3]float64
	for i := range out {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return nil
		}
		out[i] = v
	}
	return &out
}

package growth

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// look adds up the memory of a process and of those below it, now, and enters the processor time of the latter.
func look(pid int, below map[int]time.Duration) (all, own int64) {
	for work := []int{pid}; len(work) > 0; {
		p := work[len(work)-1]
		work = work[:len(work)-1]
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		if err != nil {
			continue // it has ended
		}
		if p != pid {
			below[p] = max(below[p], processorTime(p))
		}
		all, own = all+statusKiB(status, "VmRSS:"), own+statusKiB(status, "RssAnon:")
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p, p))
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p))
		for _, t := range threads { // a child belongs to the thread that started it
			if t.Name() != strconv.Itoa(p) {
				more, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", p, t.Name()))
				children = append(append(children, ' '), more...)
			}
		}
		for f := range strings.FieldsSeq(string(children)) {
			if c, err := strconv.Atoi(f); err == nil {
				work = append(work, c)
			}
		}
	}
	return all, own
}

// processorTime reads proc_pid_stat(5): fields 14 and 15, behind a name in parentheses that may hold anything.
func processorTime(pid int) time.Duration {
	const perSecond = 100 // of the clock ticks that the kernel counts in
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if err != nil || len(f) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / perSecond
}

// statusKiB returns a line of proc_pid_status(5) that is given in KiB, in bytes.
func statusKiB(status []byte, key string) int64 {
	_, rest, ok := bytes.Cut(status, []byte("\n"+key))
	if !ok {
		return 0
	}
	f := bytes.Fields(rest[:min(len(rest), 64)])
	if len(f) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(f[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// maxResident is the peak of the largest single process of those that ended.
func maxResident(s *os.ProcessState) int64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}

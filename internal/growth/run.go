package growth

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// Cost is what one run of a command took.
type Cost struct {
	Wall  time.Duration
	CPU   time.Duration // of the process and all below it
	Below time.Duration // of these, of processes below it: those that run models
	Peak  int64         // most bytes resident at once in the process and those below it, pages of mapped files included
	Own   int64         // of these, most bytes that are no pages of files; 0 where it is not known
}

// poll is how often memory is looked at. What comes and goes in between is not seen, but for the peak of single
// processes, which the system keeps.
const poll = 5 * time.Millisecond

// Measure runs a command. Its output is dropped; where it fails, the error has what it said, and wraps an
// [exec.ExitError] where it exited with another code than 0.
func Measure(program string, args ...string) (Cost, error) {
	c := exec.Command(program, args...)
	var said bytes.Buffer
	c.Stderr = &said
	began := time.Now()
	if err := c.Start(); err != nil {
		return Cost{}, err
	}
	stop, seen := make(chan struct{}), make(chan Cost)
	go func() {
		var most Cost
		below := map[int]time.Duration{}
		tick := time.NewTicker(poll)
		defer tick.Stop()
		for {
			peak, own := look(c.Process.Pid, below)
			most.Peak, most.Own = max(most.Peak, peak), max(most.Own, own)
			select {
			case <-stop:
				for _, d := range below {
					most.Below += d
				}
				seen <- most
				return
			case <-tick.C:
			}
		}
	}()
	err := c.Wait()
	wall := time.Since(began)
	close(stop)
	cost := <-seen
	cost.Wall, cost.CPU = wall, c.ProcessState.UserTime()+c.ProcessState.SystemTime()
	cost.Peak = max(cost.Peak, maxResident(c.ProcessState))
	if err != nil {
		return cost, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, lastLine(said.String()))
	}
	return cost, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// Least is the least of several costs, each quantity by itself: noise only adds. Memory is the most.
func Least(list []Cost) Cost {
	out := list[0]
	for _, c := range list[1:] {
		out.Wall, out.CPU, out.Below = min(out.Wall, c.Wall), min(out.CPU, c.CPU), min(out.Below, c.Below)
		out.Peak, out.Own = max(out.Peak, c.Peak), max(out.Own, c.Own)
	}
	return out
}

//go:build unix || windows

package worker

import (
	"bytes"
	"regexp"
	"strings"
	"sync"
)

// The end of a worker's log that is kept.
const (
	tailLines = 20
	tailBytes = 64 << 10
)

// tail is a writer that keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p[max(0, len(p)-tailBytes):]...)
	if over := len(t.b) - tailBytes; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

// goroutine begins the stacks that Go's runtime prints when a library crashes.
var goroutine = regexp.MustCompile(`^goroutine \d+ .*:$`)

// lines returns the last lines, printable and without stacks, whose end would
// hide the reason that precedes them.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for l := range bytes.Lines(t.b) {
		s := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' || r == 0x7f || r == 0xfffd {
				return -1
			}
			return r
		}, string(l))
		if s = strings.TrimSpace(s); goroutine.MatchString(s) {
			break
		} else if s != "" {
			out = append(out, s)
		}
	}
	return out[max(0, len(out)-tailLines):]
}

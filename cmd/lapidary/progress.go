package main

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// spinner shows what is being done, on a terminal only.
type spinner struct {
	bar  *progressbar.ProgressBar
	stop chan struct{}
	done chan struct{}
}

// spin starts a spinner; its stage method may be given to any library.
func (a *app) spin() *spinner {
	s := &spinner{}
	if a.progress != "auto" || !a.env.terminal || a.quiet {
		return s
	}
	s.bar = progressbar.NewOptions(-1, progressbar.OptionSetWriter(a.env.stderr), progressbar.OptionSpinnerType(14),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(65*time.Millisecond))
	s.stop, s.done = make(chan struct{}), make(chan struct{})
	go func() {
		defer close(s.done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				return
			case <-tick.C:
				s.bar.Add(1)
			}
		}
	}()
	return s
}

// stage says what is being done now.
func (s *spinner) stage(text string) {
	if s.bar != nil {
		s.bar.Describe(text)
	}
}

// finish takes the spinner off the screen.
func (s *spinner) finish() {
	if s.bar == nil {
		return
	}
	close(s.stop)
	<-s.done
	s.bar.Finish()
	s.bar = nil
}

// count returns a function that shows how much of a work of known size is done,
// and one that takes it off the screen.
func (a *app) count(what string) (func(done, total int64), func()) {
	if a.progress != "auto" || !a.env.terminal || a.quiet {
		return func(int64, int64) {}, func() {}
	}
	var bar *progressbar.ProgressBar
	return func(done, total int64) {
			if bar == nil {
				bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(a.env.stderr), progressbar.OptionSetDescription(what),
					progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(65*time.Millisecond), progressbar.OptionShowCount())
			}
			bar.Set64(done)
		}, func() {
			if bar != nil {
				bar.Finish()
			}
		}
}

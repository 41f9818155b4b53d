//go:build !unix && !windows

package worker

import (
	"context"
	"errors"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// Opener returns an engine that refuses to open: on this platform there is no
// worker process, and models run in the process itself.
func Opener(Options) session.Opener {
	return func(context.Context, string, session.Options) (session.Session, error) {
		return nil, errors.New("worker processes are not available on this platform; run the model in this process")
	}
}

// Main fails, since there are no workers on this platform.
func Main(session.Opener) int { return 1 }

package produce

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// endless is a session whose runs end with their context only.
type endless struct{ fakeSession }

func (*endless) Run(ctx context.Context, _ map[string]*onnx.Tensor) (*session.Result, error) {
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// TestEndless: a model that does not come back from generated inputs is an error in time.
func TestEndless(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	v := &Verify{Patience: time.Millisecond}
	err := v.collect(ctx, &endless{}, &reference{})
	if err == nil || !strings.Contains(err.Error(), "give real ones with --data: ") || !strings.Contains(err.Error(), "more than 1ms") {
		t.Errorf("%v", err)
	}
}

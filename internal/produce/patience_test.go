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

// inputless is a session of a model without inputs.
type inputless struct{ fakeSession }

func (*inputless) Inputs() []session.Port { return nil }

// TestNoInputs: a model without inputs has one sample, which is nothing.
func TestNoInputs(t *testing.T) {
	ref := &reference{}
	if err := (&Verify{}).collect(t.Context(), &inputless{}, ref); err != nil {
		t.Fatal(err)
	}
	if len(ref.samples) != 1 || len(ref.samples[0].Inputs) != 0 {
		t.Errorf("%d samples", len(ref.samples))
	}
}

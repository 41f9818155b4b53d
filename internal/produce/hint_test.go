package produce_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// TestHint: leaving out the check is proposed where that gives something, and not
// where the engine does not load the original, or the transform runs it too.
func TestHint(t *testing.T) {
	stuck := func(_ context.Context, path string, _ session.Options) (session.Session, error) {
		m, err := onnxfile.Open(path, onnxfile.Options{})
		if err != nil {
			return nil, err
		}
		return &stuckSession{fake{m: m}}, nil
	}
	for name, c := range map[string]struct {
		o    produce.Options
		hint string
	}{
		"it does not load":    {produce.Options{Verify: &produce.Verify{Open: (&engine{refuse: "Abs"}).open}}, "--ort-lib"},
		"it does not run":     {produce.Options{Verify: &produce.Verify{Open: stuck}}, "--no-verify"},
		"it runs for itself":  {produce.Options{Verify: &produce.Verify{Open: stuck}, Runs: true}, ""},
		"nor does it load so": {produce.Options{Verify: &produce.Verify{Open: (&engine{refuse: "Abs"}).open}, Runs: true}, "--ort-lib"},
	} {
		src := source(t, model)
		_, err := produce.File(t.Context(), beside(src), src, transform(t, doubleNeg), c.o)
		if err == nil {
			t.Fatalf("%s: no error", name)
		}
		for _, flag := range []string{"--ort-lib", "--no-verify"} {
			if got := strings.Contains(err.Error(), flag); got != (flag == c.hint) {
				t.Errorf("%s: %v; want the hint %q", name, err, c.hint)
			}
		}
	}
}

// stuckSession is of a model that loads and does not run.
type stuckSession struct{ fake }

func (s *stuckSession) Run(context.Context, map[string]*onnx.Tensor) (*session.Result, error) {
	return nil, errors.New("stuck")
}

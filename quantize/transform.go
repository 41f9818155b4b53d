package quantize

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Transform returns what [File] does to a model, and how the result is to be
// checked, for a caller that looks into the rewriting itself.
func Transform(o Options) (produce.Transform, *produce.Verify, error) {
	if err := o.validate(); err != nil {
		return nil, nil, err
	}
	s := schemeFor(&o)
	return func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
		done, err := quantizeModel(ctx, m, s, ro)
		if err != nil {
			return nil, err
		}
		return done.log, nil
	}, tolerant(&o), nil
}

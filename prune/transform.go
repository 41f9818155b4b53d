package prune

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
	if o.Verify != nil {
		v := *o.Verify
		v.Tolerance = finite
		o.Verify = &v
	}
	return func(ctx context.Context, m *onnx.Model, ro rewrite.Options) (*rewrite.Log, error) {
		return rewrite.Run(ctx, m, []rewrite.Pass{&magnitude{o: o}}, nil, ro)
	}, o.Verify, nil
}

package produce

import (
	"context"
	"fmt"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// cut changes the original as was asked for, and stores it for the engine where
// anything changed. The caller calls done at the end.
func (j *job) cut(ctx context.Context, r *Result) (done func(), err error) {
	j.base, done = j.src, func() {}
	if j.o.Cut == nil {
		return done, nil
	}
	if r.Cut, err = j.o.Cut(ctx, j.m); err != nil {
		return nil, fmt.Errorf("%s: %w", j.src, err)
	}
	if len(r.Cut) == 0 || j.o.Verify == nil {
		return done, nil
	}
	s, err := onnxfile.Stage(j.dst, j.m, onnxfile.WriteOptions{External: j.o.External, Keep: j.keep})
	if err != nil {
		return nil, err
	}
	j.base = s.Path()
	return s.Abort, nil
}

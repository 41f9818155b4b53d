package quantize

import (
	"context"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// search finds codes by data.
func (s *weightOnly) search(ctx context.Context, m *onnx.Model) ([]string, error) {
	s.fits = map[string]*fitted{}
	return nil, nil
}

package quantize

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/calibrate"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// measure runs m on the calibration data, or only on the part of it to fit on,
// and returns what was seen of wants.
func measure(ctx context.Context, o *Options, m *onnx.Model, wants []calibrate.Want, fit bool) (*calibrate.Result, error) {
	o.progress("calibrating")
	pass, key := func() calibrate.Pass { return calibrate.Over(ctx, o.Calibration, o.Batch) }, o.key
	if fit {
		pass, key = func() calibrate.Pass { return fitPass(ctx, o) }, key+"\nfit"
	}
	return calibrate.Measure(ctx, m, wants, pass, calibrate.Options{
		Open: o.Open, Session: o.Session, Workers: o.Workers, MaxBytes: o.MaxMemory, Snapshot: o.Statistics, Every: o.SnapshotEvery, Key: key,
		Progress: func(samples int64) {
			if o.Calibrated != nil {
				o.Calibrated(samples, o.Calibration.Len())
			}
		},
	})
}

// statisticsKey tells what decides the statistics besides the tensors: the model
// with its external data, the data and how it is fed.
func statisticsKey(src string, m *onnx.Model, data string, o *Options) (string, error) {
	h := sha256.New()
	f, _, err := readfile.Open(src)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			if t := v.Const; t != nil && t.External != nil {
				if _, err := onnx.WriteData(h, t.Data); err != nil {
					return "", err
				}
			}
		}
	}
	return strings.Join([]string{hex.EncodeToString(h.Sum(nil)), data, fmt.Sprint(o.Batch), fmt.Sprint(o.Rewrite.Dims)}, "\n"), nil
}

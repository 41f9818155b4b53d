package main

import (
	"context"
	"errors"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

type ledgerSample struct {
	id     string
	source ledgerSource
	inputs map[string]*onnx.Tensor
}

// ledgerSource is where inputs are from.
type ledgerSource int

const (
	fromTestData ledgerSource = iota
	fromSeed
	fromCalibration // among what static int8 was calibrated on
)

// ledgerSeed is of generated inputs; the commands have another.
const ledgerSeed = 20

// samples returns inputs with which a model runs: its test data, and generated ones.
func (g *ledgerGraph) samples(path string) (out []ledgerSample, err error) {
	in, results, err := modelPorts(path)
	if err != nil {
		return nil, err
	}
	s, err := g.open(path, session.LevelOff)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	gone := false // the session, with a run that it did not come back from
	add := func(spec string, dims map[string]int64, seed uint64, source ledgerSource) bool {
		if gone {
			return false
		}
		set, err := dataset.Open(spec, dataset.Options{Inputs: in, Outputs: results, Dims: dims, Seed: seed})
		if err != nil {
			return false
		}
		defer set.Close()
		var list []ledgerSample
		for sample, err := range set.Samples(context.Background()) {
			if err != nil {
				return false
			}
			list = append(list, ledgerSample{sample.ID, source, sample.Inputs})
		}
		_, err = runSamples(s, list)
		gone = errors.Is(err, context.DeadlineExceeded)
		if err != nil || len(list) == 0 {
			return false
		}
		out = append(out, list...)
		return true
	}
	if g.Data != "" {
		add(g.Data, nil, 0, fromTestData)
	}
	if len(in) == 0 {
		return []ledgerSample{{id: "nothing", inputs: map[string]*onnx.Tensor{}}}, nil
	}
	for _, size := range []int64{2, 1, 3, 8, 64, 512} {
		dims := map[string]int64{}
		for _, p := range in {
			if p.Type != nil {
				for _, d := range p.Type.Shape {
					if d.Param != "" {
						dims[d.Param] = size
					}
				}
			}
		}
		if add("synthetic:2", dims, ledgerSeed, fromSeed) {
			break
		}
	}
	add("synthetic:4", nil, defaultSeed, fromCalibration)
	return out, nil
}

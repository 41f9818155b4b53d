package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/lapidary-ml/lapidary/internal/compare"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// ledgerBound is what outputs of a result may differ by.
type ledgerBound struct {
	exact bool    // by what the element type allows two right implementations
	class string  // for floating-point outputs of these, what the model's inner type allows; "" for the outputs' own
	sqnr  float64 // else: least SQNR of floating-point outputs in dB, over all samples of a source; −∞: any finite values
	own   bool    // the bound is for what ranges were measured on: what is outside of them is clipped on purpose
	none  bool    // nothing is run
}

// The floors are far below what each scheme reaches on trained models and far
// above what a wrong scale, zero point or axis leaves: 0 dB is as wrong as no output at all.
var (
	boundExact   = ledgerBound{exact: true}
	boundHalf    = ledgerBound{exact: true, class: "float16"}
	boundDynamic = ledgerBound{sqnr: 15}
	boundStatic  = ledgerBound{sqnr: 10, own: true}
	boundFP16    = ledgerBound{sqnr: 40}
	boundBF16    = ledgerBound{sqnr: 24}
	boundInt4    = ledgerBound{sqnr: 6}
	boundForm    = ledgerBound{sqnr: math.Inf(-1)}
	boundNone    = ledgerBound{none: true}
)

var ledgerLevels = []session.Level{session.LevelOff, session.LevelAll}

// ledgerRuns is what a model computes, by itself.
type ledgerRuns struct {
	samples []ledgerSample
	outputs map[session.Level][]map[string]*onnx.Tensor
	random  map[string]bool // outputs that differ from run to run
	why     error           // why it does not run
}

// reference runs a model on its test data and on generated data.
func (g *ledgerGraph) reference(path string) *ledgerRuns {
	r := &ledgerRuns{outputs: map[session.Level][]map[string]*onnx.Tensor{}, random: map[string]bool{}}
	if r.samples, r.why = g.samples(path); r.why != nil {
		return r
	}
	for _, level := range ledgerLevels {
		s, err := g.open(path, level)
		if err != nil {
			r.why = err
			return r
		}
		r.outputs[level], err = runSamples(s, r.samples)
		if err == nil && len(r.samples) > 0 {
			err = r.findRandom(s, level)
		}
		s.Close()
		if err != nil || len(r.samples) == 0 {
			r.why = fmt.Errorf("no inputs run: %v", err)
			return r
		}
	}
	return r
}

func (g *ledgerGraph) open(path string, level session.Level) (session.Session, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	o := g.engine.options
	o.Level = level
	return g.engine.open(ctx, path, o)
}

func runSamples(s session.Session, list []ledgerSample) (out []map[string]*onnx.Tensor, err error) {
	for _, sample := range list {
		r, err := s.Run(context.Background(), sample.inputs)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sample.id, err)
		}
		out = append(out, r.Outputs)
	}
	return out, nil
}

// findRandom runs again to find outputs that are not the same each time.
func (r *ledgerRuns) findRandom(s session.Session, level session.Level) error {
	for range 3 {
		again, err := runSamples(s, r.samples[:1])
		if err != nil {
			return err
		}
		for i := range again {
			for name, w := range r.outputs[level][i] {
				if again[i][name] == nil || agrees(w, again[i][name], compare.ClassFor(w.DType)) != nil {
					r.random[name] = true
				}
			}
		}
	}
	return nil
}

// compare runs a result beside the model that it was made of.
func (r *ledgerRuns) compare(g *ledgerGraph, path string, b ledgerBound) error {
	if r.why != nil {
		return fmt.Errorf("written although the model that it was made of does not run: %w", r.why)
	}
	for _, level := range ledgerLevels {
		s, err := g.open(path, level)
		if err != nil {
			return fmt.Errorf("the result does not load at level %d: %w", level, err)
		}
		got, err := runSamples(s, r.samples)
		s.Close()
		if err != nil {
			return fmt.Errorf("the result does not run at level %d: %w", level, err)
		}
		if b.exact {
			err = r.equal(level, got, b)
		} else {
			err = r.near(level, got, b)
		}
		if err != nil {
			return fmt.Errorf("at level %d: %w", level, err)
		}
	}
	return nil
}

// each calls f with every output of every sample that is the same in each
// run, as it is wanted and as it came.
func (r *ledgerRuns) each(level session.Level, got []map[string]*onnx.Tensor, f func(i int, name string, want, got *onnx.Tensor) error) error {
	for i, want := range r.outputs[level] {
		for _, name := range slices.Sorted(maps.Keys(got[i])) {
			if want[name] == nil && !r.random[name] {
				return fmt.Errorf("%s: output %q is new", r.samples[i].id, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if r.random[name] {
				continue
			}
			if got[i][name] == nil {
				return fmt.Errorf("%s: output %q is missing", r.samples[i].id, name)
			}
			if err := f(i, name, want[name], got[i][name]); err != nil {
				return fmt.Errorf("%s: output %q: %w", r.samples[i].id, name, err)
			}
		}
	}
	return nil
}

// equal holds outputs against what their element types allow. Where the
// runtime's optimizations are on, they may be what the original gives without:
// these move the original too.
func (r *ledgerRuns) equal(level session.Level, got []map[string]*onnx.Tensor, b ledgerBound) error {
	return r.each(level, got, func(i int, name string, want, got *onnx.Tensor) error {
		err := agrees(want, got, b.of(want.DType))
		if err == nil || level == session.LevelOff {
			return err
		}
		plain := r.outputs[session.LevelOff][i][name]
		if plain != nil && agrees(plain, got, b.of(plain.DType)) == nil || asNoise(want, got) {
			return nil
		}
		return err
	})
}

// of returns the class for outputs of a type where they are to be equal.
func (b ledgerBound) of(d onnx.DType) compare.Class {
	c := compare.ClassFor(d)
	if b.class == "" || !d.IsFloat() {
		return c
	}
	inner, err := compare.ParseClass(b.class)
	if err != nil {
		panic(err)
	}
	return compare.Looser(c, inner)
}

// near holds outputs against the bound of a scheme: types, shapes and finiteness
// in every sample, the noise over all samples of a source.
func (r *ledgerRuns) near(level session.Level, got []map[string]*onnx.Tensor, b ledgerBound) error {
	type key struct {
		name   string
		source ledgerSource
	}
	signal, noise := map[key]float64{}, map[key]float64{}
	err := r.each(level, got, func(i int, name string, want, got *onnx.Tensor) error {
		if want.DType != got.DType || !slices.Equal(want.Shape, got.Shape) {
			return fmt.Errorf("it is %v%v, want %v%v", got.DType, got.Shape, want.DType, want.Shape)
		}
		if !want.DType.IsFloat() {
			return nil // a threshold turns a small difference into any
		}
		d, err := compare.Tensors(want, got, compare.Class{Name: "any", ATol: math.Inf(1)})
		if err == nil && d.NonFinite > 0 {
			err = errors.New(d.Reason)
		}
		if err != nil {
			return err
		}
		s, n, err := powers(want, got)
		k := key{name, r.samples[i].source}
		signal[k] += s
		noise[k] += n
		return err
	})
	if err != nil {
		return err
	}
	for k := range signal {
		if b.own && k.source != r.calibrated() {
			continue
		}
		if sqnr := 10 * math.Log10(signal[k]/noise[k]); sqnr < b.sqnr {
			return fmt.Errorf("output %q has an SQNR of %.1f dB, want %v (source %d)", k.name, sqnr, b.sqnr, k.source)
		}
	}
	return nil
}

// powers returns the sum of squares of what is wanted, and of what the result is off
// by, over elements that are finite in both.
func powers(want, got *onnx.Tensor) (signal, noise float64, err error) {
	a, err := want.Float64s()
	if err != nil {
		return 0, 0, err
	}
	b, err := got.Float64s()
	if err != nil {
		return 0, 0, err
	}
	for i, x := range a {
		if d := b[i] - x; !math.IsNaN(d) && !math.IsInf(d, 0) {
			signal += x * x
			noise += d * d
		}
	}
	return signal, noise, nil
}

// calibrated is what static int8 was calibrated on: the test data where nothing
// else runs.
func (r *ledgerRuns) calibrated() ledgerSource {
	if slices.ContainsFunc(r.samples, func(s ledgerSample) bool { return s.source == fromCalibration }) {
		return fromCalibration
	}
	return fromTestData
}

// asNoise reports whether two outputs differ by rounding only.
func asNoise(want, got *onnx.Tensor) bool {
	c := compare.ClassFor(want.DType)
	d, err := compare.Tensors(want, got, c)
	return err == nil && d.Noise(c)
}

func agrees(want, got *onnx.Tensor, c compare.Class) error {
	if want.DType != got.DType {
		return fmt.Errorf("the type is %v, want %v", got.DType, want.DType)
	}
	d, err := compare.Tensors(want, got, c)
	if err == nil && !d.OK {
		err = fmt.Errorf("%s", d.Reason)
	}
	return err
}

package validate

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/lapidary-ml/lapidary/internal/session"
)

// both are the sessions of the two models.
type both struct{ baseline, candidate session.Session }

// Close ends both.
func (b *both) Close() {
	b.baseline.Close()
	b.candidate.Close()
}

// open loads both models; the candidate takes the baseline's inputs, once pair has run.
func (v *validation) open(ctx context.Context) (*both, error) {
	b, err := v.o.Open(ctx, v.o.Baseline, v.o.Session)
	if err != nil {
		return nil, fmt.Errorf("loading the baseline: %w", err)
	}
	c, err := v.o.Open(ctx, v.o.Candidate, v.o.Session)
	if err != nil {
		b.Close()
		return nil, candidateFault("loading it: %w", err)
	}
	if v.bounds != nil {
		c = v.bounds.adapt(c, v.in)
	}
	return &both{b, c}, nil
}

// loaded returns the sessions that pair opened, once, and fresh ones after that.
func (v *validation) loaded(ctx context.Context) (*both, error) {
	s := v.kept
	if s == nil {
		return v.open(ctx)
	}
	v.kept = nil
	s.candidate = v.bounds.adapt(s.candidate, v.in)
	return s, nil
}

// release ends the sessions that pair opened, where nothing took them.
func (v *validation) release() {
	if v.kept != nil {
		v.kept.Close()
		v.kept = nil
	}
}

// pair loads both models, matches their ports, and opens the data for them. The sessions stay open for accuracy.
func (v *validation) pair(ctx context.Context) error {
	s, err := v.open(ctx)
	if err != nil {
		return err
	}
	v.kept = s
	if v.in, v.bounds, err = match(s.baseline, s.candidate); err != nil {
		return fmt.Errorf("%s against %s: %w", v.o.Candidate, v.o.Baseline, err)
	}
	for _, p := range v.in {
		if d, ok := v.bounds.convert[p.Name]; ok {
			v.warn("input %q is %v in the baseline and %v in the candidate: it is converted before each run, outside of the time measured", p.Name, p.Type.Elem, d)
		}
		if v.bounds.absent[p.Name] {
			v.warn("input %q of the baseline is not an input of the candidate: only the baseline is given it", p.Name)
		}
	}
	for _, p := range s.candidate.Outputs() {
		if !hasPort(s.baseline.Outputs(), p.Name) {
			v.warn("output %q of the candidate is not an output of the baseline: it is not compared", p.Name)
		}
	}
	if m, ok := s.candidate.(session.Meter); ok {
		v.fallbacks(m)
	}
	return v.openData(ctx, s.baseline)
}

// fallbacks reports the nodes of the candidate that do not run on the device asked for.
func (v *validation) fallbacks(m session.Meter) {
	st, err := m.Stats()
	if err != nil || st.Fallbacks < 0 || v.r.Environment.Device == "cpu" {
		return
	}
	v.r.Environment.FallbackNodes = report.Count(st.Fallbacks)
	if st.Fallbacks > 0 {
		v.warn("%d nodes of the candidate run on the CPU although %s was asked for", st.Fallbacks, v.r.Environment.Device)
	}
}

func (v *validation) openData(ctx context.Context, baseline session.Session) error {
	o := v.o.Dataset
	o.Inputs, o.Sum = v.in, true
	o.Outputs = nil
	for _, p := range baseline.Outputs() {
		o.Outputs = append(o.Outputs, dataset.Port{Name: p.Name, Type: p.Type})
	}
	v.carried = map[string]bool{}
	for out := range o.State {
		v.carried[out] = true
	}
	var err error
	if v.set, err = dataset.Open(v.o.Data, o); err != nil {
		return err
	}
	for _, w := range v.set.Warnings() {
		v.warn("%s", w)
	}
	v.r.Data = v.newData()
	if err := v.readCalibration(ctx, o); err != nil {
		v.set.Close()
		return err
	}
	return nil
}

func (v *validation) newData() *report.Data {
	d := &report.Data{
		Origin: report.OriginFiles, Name: filepath.Base(v.o.Data), Samples: int(v.set.Len()),
		Labelled: v.set.Labels() != dataset.NoLabel,
	}
	if v.set.Synthetic() {
		d.Origin, d.Name = report.OriginSynthetic, v.o.Data
	} else if strings.Contains(v.o.Data, ",") {
		d.Name = "a list of files"
	}
	if p := v.o.Dataset.Preprocess; p != nil {
		d.Preprocess, d.PreprocessDigest = p.String(), p.Digest()
	}
	return d
}

// readCalibration collects the sums of the calibration rows: 16 bytes for each.
func (v *validation) readCalibration(ctx context.Context, o dataset.Options) error {
	named := v.calibrationDigests()
	if len(v.o.Calibration) == 0 {
		if len(named) > 0 && !v.set.Synthetic() {
			v.warn("the candidate was calibrated on data that was not given: rows that both sets hold are not counted, only whether the sets are the same")
		}
		return nil
	}
	v.known = map[[16]byte]struct{}{}
	o.Skip, o.Limit, o.Shuffle = 0, 0, false
	found := false
	for _, spec := range v.o.Calibration {
		set, err := dataset.Open(spec, o)
		if err != nil {
			return fmt.Errorf("calibration data: %w", err)
		}
		var digest dataset.Digest
		for s, err := range set.Samples(ctx) {
			if err != nil {
				set.Close()
				return fmt.Errorf("calibration data %s: %w", spec, err)
			}
			digest.Add(s)
			v.known[s.Sum] = struct{}{}
		}
		set.Close()
		found = found || slices.Contains(named, digest.Hex())
	}
	if len(named) > 0 && !found {
		v.warn("the calibration data given is not, as a whole, the data that the candidate's history names")
	}
	return nil
}

// calibrationDigests returns the digests of calibration data in the candidate's history.
func (v *validation) calibrationDigests() []string {
	var out []string
	for _, s := range v.r.Candidate.History {
		out = append(out, s.Calibration...)
	}
	return out
}

// census collects what the report says of the data, one sample after another.
type census struct {
	digest   dataset.Digest
	classes  map[int64]struct{}
	known    map[[16]byte]struct{}
	overlap  int
	examples []string
	name     func(*dataset.Sample) string
}

// maxClasses bounds the classes that are told apart.
const maxClasses = 1 << 20

func (v *validation) newCensus() *census {
	return &census{classes: map[int64]struct{}{}, known: v.known, name: v.name}
}

// name names a sample in a message: by the name that it has only where samples may be named, else by its row.
func (v *validation) name(s *dataset.Sample) string {
	if v.o.IncludeSamples {
		return s.ID
	}
	return fmt.Sprintf("row %d", s.Index)
}

func (c *census) add(s *dataset.Sample) {
	c.digest.Add(s)
	if _, ok := c.known[s.Sum]; ok {
		if c.overlap++; len(c.examples) < 5 {
			c.examples = append(c.examples, c.name(s))
		}
	}
	if s.Label == nil || s.Label.DType != onnx.Int64 || len(c.classes) >= maxClasses {
		return
	}
	if v, err := s.Label.Ints(); err == nil {
		for _, x := range v {
			c.classes[x] = struct{}{}
		}
	}
}

// fill completes the data section. It errs with an OverlapError where rows overlap that may not.
func (v *validation) fill(c *census) error {
	d := v.r.Data
	d.Digest, d.Classes = c.digest.Hex(), len(c.classes)
	overlap := -1
	if v.known != nil {
		overlap = c.overlap
	}
	if d.Origin == report.OriginFiles && slices.Contains(v.calibrationDigests(), d.Digest) {
		overlap = d.Samples
	}
	if overlap < 0 {
		return nil
	}
	d.CalibrationOverlap = &overlap
	switch {
	case overlap == 0:
	case !v.o.AllowOverlap:
		return &OverlapError{Rows: overlap, Samples: d.Samples, Examples: c.examples}
	default:
		v.warn("%d of %d validation rows are calibration rows: the accuracy of the candidate is overstated", overlap, d.Samples)
	}
	return nil
}

// describeData reads the data for its own sake, where no section went through all of it.
func (v *validation) describeData(ctx context.Context) error {
	c := v.newCensus()
	for s, err := range v.set.Samples(ctx) {
		if err != nil {
			return err
		}
		c.add(s)
	}
	return v.fill(c)
}

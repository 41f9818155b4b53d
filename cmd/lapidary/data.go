package main

import (
	"fmt"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/spf13/cobra"
)

// dataFlags are the flags of commands that read data.
type dataFlags struct {
	spec       string
	preprocess string
	label      string
	state      map[string]string
	dims       map[string]int64
	limit      int64
	skip       int64
	shuffle    bool
	batch      int
	seed       uint64
}

// defaultSeed is used where --seed is not given, so that runs repeat.
const defaultSeed = 1

func (f *dataFlags) register(c *cobra.Command, purpose string) {
	p := c.Flags()
	p.StringVar(&f.spec, "data", "", purpose+": X.npz, .npy files, a folder of images with labels.tsv, .csv, .jsonl, .json of COCO, a test_data_set_* folder, or synthetic[:N]")
	p.StringVar(&f.preprocess, "preprocess", "", "how pictures become inputs: a `FILE`, or as in resize=256,crop=224,layout=nchw,channels=bgr,mean=104:117:123,std=1")
	p.StringVar(&f.label, "label", "", "name of the label array or column; default: labels or label")
	p.StringToStringVar(&f.state, "state", nil, "output carried over to an input of the next sample, as `OUT=IN`")
	p.Int64Var(&f.limit, "limit", 0, "most samples to use; 0: all")
	p.Int64Var(&f.skip, "skip", 0, "samples to leave out at the start")
	p.BoolVar(&f.shuffle, "shuffle", false, "take samples in an order drawn from --seed")
	p.IntVar(&f.batch, "batch", 0, "samples run at once; 0: as the model and the data suggest")
	f.registerDims(c)
	f.registerSeed(c)
}

func (f *dataFlags) registerDims(c *cobra.Command) {
	c.Flags().StringToInt64Var(&f.dims, "dim", nil, "size of a symbolic dimension, as `NAME=N`")
}

func (f *dataFlags) registerSeed(c *cobra.Command) {
	c.Flags().Uint64Var(&f.seed, "seed", defaultSeed, "seed of everything random")
}

// options turns the flags into what data for the model with these ports needs.
func (f *dataFlags) options(inputs, outputs []dataset.Port) (dataset.Options, error) {
	o := dataset.Options{
		Inputs: inputs, Outputs: outputs, Dims: f.dims, Label: f.label, State: f.state,
		Shuffle: f.shuffle, Seed: f.seed, Skip: f.skip, Limit: f.limit,
	}
	if f.limit < 0 || f.skip < 0 || f.batch < 0 {
		return o, usagef("--limit, --skip and --batch must not be negative")
	}
	if f.preprocess != "" {
		p, err := dataset.ParsePreprocess(f.preprocess)
		if err != nil {
			return o, usageError{err}
		}
		o.Preprocess = p
	}
	return o, nil
}

// modelPorts returns the inputs that a caller must give and the outputs.
func modelPorts(path string) (inputs, outputs []dataset.Port, err error) {
	m, err := onnxfile.Open(path, onnxfile.Options{MissingExternalData: true})
	if err != nil {
		return nil, nil, err
	}
	defer m.Close()
	for _, v := range m.Graph.Inputs() {
		if v.Const == nil {
			inputs = append(inputs, dataset.Port{Name: strings.Clone(v.Name()), Type: cloneType(v.Type)})
		}
	}
	for _, v := range m.Graph.Outputs() {
		outputs = append(outputs, dataset.Port{Name: strings.Clone(v.Name()), Type: cloneType(v.Type)})
	}
	return inputs, outputs, nil
}

// cloneType drops what refers to the model's file, which will be unmapped.
func cloneType(t *onnx.Type) *onnx.Type {
	if t == nil {
		return nil
	}
	c := *t
	c.Opaque, c.Unknown, c.Of = nil, nil, cloneType(t.Of)
	return &c
}

// openData opens the data for a model; nil where none was asked for.
func (f *dataFlags) open(model string) (*dataset.Set, error) {
	if f.spec == "" {
		return nil, nil
	}
	in, out, err := modelPorts(model)
	if err != nil {
		return nil, err
	}
	o, err := f.options(in, out)
	if err != nil {
		return nil, err
	}
	set, err := dataset.Open(f.spec, o)
	if err != nil {
		return nil, fmt.Errorf("--data %s: %w", f.spec, err)
	}
	return set, nil
}

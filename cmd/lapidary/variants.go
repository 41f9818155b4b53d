package main

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/internal/dataset"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/produce"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// variant is a model to write with some dimensions fixed.
type variant struct {
	name string
	dims map[string]int64
}

var variantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// parseVariants reads NAME:DIM=N,DIM=N; common dimensions hold for all of them.
func parseVariants(list []string, common map[string]int64) ([]variant, error) {
	var out []variant
	seen := map[string]bool{}
	for _, text := range list {
		name, dims, ok := strings.Cut(text, ":")
		if !ok || !variantName.MatchString(name) {
			return nil, usagef("--variant %q: want NAME:DIM=N,DIM=N, the name of letters, digits, '.', '_' and '-'", text)
		}
		if seen[name] {
			return nil, usagef("--variant %s is given twice", name)
		}
		seen[name] = true
		v := variant{name, maps.Clone(common)}
		if v.dims == nil {
			v.dims = map[string]int64{}
		}
		for _, part := range strings.Split(dims, ",") {
			dim, size, ok := strings.Cut(part, "=")
			n, err := strconv.ParseInt(size, 10, 64)
			if !ok || dim == "" || err != nil || n < 1 {
				return nil, usagef("--variant %s: %q is not DIM=N with a size from 1", name, part)
			}
			v.dims[dim] = n
		}
		out = append(out, v)
	}
	return out, nil
}

// path is where the variant goes: OUT-NAME.onnx for the output OUT.onnx.
func (v variant) path(out string) string {
	ext := filepath.Ext(out)
	return strings.TrimSuffix(out, ext) + "-" + v.name + ext
}

// variantResult is one model of several.
type variantResult struct {
	Variant string           `json:"variant"`
	Dims    map[string]int64 `json:"dims"`
	*produce.Result
	Summary []rewrite.RuleSummary `json:"summary"`
}

// fuseVariants writes one model per variant, each checked by itself. The first
// that fails ends the work; those before it are in place.
func (a *app) fuseVariants(ctx context.Context, dst, model string, f *fuseFlags, o fuse.Options, texts []string, s *spinner) error {
	list, err := parseVariants(texts, f.df.dims)
	if err != nil {
		return err
	}
	if f.rf.inPlace || f.rf.log != "" || o.SaveOptimized != nil {
		return usagef("--in-place, --log and --save-optimized are for one output; leave them out with --variant")
	}
	if o.External == onnxfile.ExternalAuto {
		if o.External, err = shareExternal(model, dst); err != nil {
			return err
		}
	}
	base, results := o.Step, []variantResult{}
	for i, v := range list {
		if o.Verify != nil {
			set, err := variantData(f, model, v.dims)
			if err != nil {
				return err
			}
			w := *o.Verify
			w.Dims, w.Data = v.dims, set
			o.Verify = &w
			if set != nil {
				defer set.Close()
			}
		}
		o.Dims, o.Step = v.dims, base
		o.Step.Options = append(withoutFlag(base.Options, "variant"), "--variant="+texts[i])
		o.Progress = func(stage string) { s.stage(v.name + ": " + stage) }
		r, err := f.produce(ctx, v.path(dst), model, o)
		if err != nil {
			s.finish()
			return fmt.Errorf("variant %s: %w", v.name, err)
		}
		results = append(results, variantResult{v.name, v.dims, r, r.Log.Summary()})
	}
	s.finish()
	return a.printVariants(results, &f.rf)
}

// variantData opens the data for one variant's sizes; nil where none was given.
func variantData(f *fuseFlags, model string, dims map[string]int64) (*dataset.Set, error) {
	df := f.df
	df.dims = dims
	return df.open(model)
}

// shareExternal keeps references to the model's own data files where the
// outputs go beside them, so that the variants share these weights.
func shareExternal(model, dst string) (onnxfile.External, error) {
	m, err := onnxfile.Open(model, onnxfile.Options{})
	if err != nil {
		return 0, err
	}
	defer m.Close()
	a, err1 := filepath.Abs(filepath.Dir(model))
	b, err2 := filepath.Abs(filepath.Dir(dst))
	if err1 != nil || err2 != nil || a != b {
		return onnxfile.ExternalAuto, nil
	}
	for _, g := range m.Graphs() {
		for _, v := range g.Initializers() {
			if v.Const.External != nil {
				return onnxfile.ExternalKeep, nil
			}
		}
	}
	return onnxfile.ExternalAuto, nil
}

// withoutFlag drops the recorded flag called name.
func withoutFlag(options []string, name string) []string {
	var out []string
	for _, o := range options {
		if !strings.HasPrefix(o, "--"+name+"=") {
			out = append(out, o)
		}
	}
	return out
}

func (a *app) printVariants(list []variantResult, rf *rewriteFlags) error {
	for _, v := range list {
		a.wrote(v.Output.Path)
	}
	if a.json() {
		return writeJSON(a.env.stdout, struct {
			Schema   string          `json:"schema"`
			Command  string          `json:"command"`
			Variants []variantResult `json:"variants"`
		}{schemaURI("rewrite-set-v1"), "fuse", list})
	}
	for _, v := range list {
		if err := a.printRewritten("fuse", v.Result, rf, nil); err != nil {
			return err
		}
	}
	return nil
}

package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/explain"
	"github.com/lapidary-ml/lapidary/internal/validate"
	"github.com/spf13/cobra"
)

// explainFlags are the flags of validate that say how models are explained.
type explainFlags struct {
	methods       []string
	samples       int
	budget        time.Duration
	grid          int
	window        int
	stride        int
	perturbations int
	rows          int
	fill          string
	token         int64
	keep          []int64
	named         func(flag string) bool // whether a flag was given
}

func (f *explainFlags) register(c *cobra.Command) {
	p := c.Flags()
	f.named = p.Changed
	p.StringSliceVar(&f.methods, "explain-method", []string{"auto"}, "`METHOD,…` to explain by, the one that gates judge first; auto is the first of the list above")
	p.IntVar(&f.samples, "explain-samples", 0, "most samples to explain; 0: as the time allows")
	p.DurationVar(&f.budget, "explain-budget", 0, "time that explanations may take, by which there are fewer samples; 0: 30s for each method")
	p.IntVar(&f.grid, "explain-grid", 0, "cells along each side of an image that are hidden in turn; 0: 7")
	p.IntVar(&f.window, "explain-window", 0, "occlusion: side of a sliding window, in pixels, or features where there is no image; 0: the cells themselves")
	p.IntVar(&f.stride, "explain-stride", 0, "occlusion: step of the sliding window; 0: half of it")
	p.IntVar(&f.perturbations, "explain-perturbations", 0, "coalitions of kernel-shap, masks of rise, points of integrated-gradients and noisy copies of smooth-grad for one map; 0: the method's own number")
	p.IntVar(&f.rows, "explain-background", 0, "rows of the data that feature-ablation and kernel-shap take hidden features from; 0: 16 for tables, else --explain-fill; -1: --explain-fill")
	p.StringVar(&f.fill, "explain-fill", "mean", "what hides a part of an input that is not made of tokens: mean, zero or blur")
	p.Int64Var(&f.token, "explain-token", 0, "token that hides a token, such as the id of [MASK]; 0 where none is given, and zeros in place of its embedding for integrated-gradients")
	p.Int64SliceVar(&f.keep, "explain-keep", nil, "tokens that are never hidden, such as the ids of [CLS], [SEP] and [PAD]")
}

// options turns the flags into what to explain.
func (f *explainFlags) options(off bool) (validate.Explain, error) {
	fills := map[string]explain.Fill{"mean": explain.FillMean, "zero": explain.FillZero, "blur": explain.FillBlur}
	fill, ok := fills[f.fill]
	if !ok {
		return validate.Explain{}, fmt.Errorf("--explain-fill is %q, want mean, zero or blur", f.fill)
	}
	e := validate.Explain{
		Off: off, Methods: f.methods, Samples: f.samples, Budget: f.budget, Grid: f.grid, Window: f.window, Stride: f.stride,
		Perturbations: f.perturbations, Rows: f.rows, Fill: fill, Token: f.token, NamedToken: f.named("explain-token"), Keep: f.keep,
	}
	if err := e.Check(); err != nil {
		return e, fmt.Errorf("--explain-method and its settings: %v", err)
	}
	return e, nil
}

// methodList says what each explanation method does, one a line.
func methodList() string {
	var b strings.Builder
	for _, m := range explain.Methods() {
		fmt.Fprintf(&b, "  %-20s %s\n", m.Name, m.Doc)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

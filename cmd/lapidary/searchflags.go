package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/pflag"
)

// searchFlags are a budget for what int8 may lose.
type searchFlags struct {
	drop, kl, sqnr string
	page           string
}

func (f *searchFlags) register(p *pflag.FlagSet, o *quantize.SearchOptions) {
	p.StringVar(&f.drop, "max-drop", "", "static int8: most accuracy to lose on held-out labelled data, such as 0.5pt; as few layers as suffice stay in float32")
	p.StringVar(&f.kl, "max-kl", "", "static int8: largest divergence of the first output, in nats")
	p.StringVar(&f.sqnr, "min-sqnr", "", "static int8: least signal to noise ratio of the outputs, in dB")
	p.StringVar(&f.page, "layers", "", "static int8: rank the layers by what each costs, and write `FILE`, a page of all layers (.html) or the same as data (.json)")
	p.StringVar(&o.Checkpoint, "checkpoint", "", "`FILE` that keeps what the search for a budget tried; an interrupted one goes on from it")
}

// options reads the limits.
func (f *searchFlags) options(o *quantize.SearchOptions) error {
	for _, x := range []struct {
		flag, text, unit string
		to               *float64
	}{{"max-drop", f.drop, "pt", &o.MaxDrop}, {"max-kl", f.kl, "", &o.MaxKL}, {"min-sqnr", f.sqnr, "dB", &o.MinSQNR}} {
		if x.text == "" {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(x.text, x.unit)), 64)
		if err != nil || !(v > 0) {
			return usagef("--%s %q: give a number above 0%s", x.flag, x.text, map[bool]string{true: ", such as 0.5pt"}[x.unit == "pt"])
		}
		*x.to = v
	}
	if ext := filepath.Ext(f.page); f.page != "" && ext != ".html" && ext != ".json" {
		return usagef("--layers %q: name a file that ends in .html or .json", f.page)
	}
	o.Sensitivity = f.page != ""
	return nil
}

// writeLayers writes the page of layers.
func (f *searchFlags) writeLayers(r *quantize.Result) error {
	if f.page == "" {
		return nil
	}
	var text []byte
	var err error
	if filepath.Ext(f.page) == ".html" {
		text, err = r.Page()
	} else {
		text, err = json.MarshalIndent(struct {
			Layers      []quantize.Layer     `json:"layers"`
			Checks      []quantize.NodeCheck `json:"checks"`
			Sensitivity []quantize.Single    `json:"sensitivity"`
		}{r.Layers, r.Checks, r.Sensitivity}, "", "  ")
	}
	if err != nil {
		return err
	}
	return atomicfile.WriteFile(f.page, text, 0o644)
}

func printSensitivity(w io.Writer, list []quantize.Single) {
	for i, s := range list {
		if i == 5 {
			fmt.Fprintf(w, "    and %d more\n", len(list)-i)
			break
		}
		if i == 0 {
			fmt.Fprintln(w, "  layers that cost most, by what the model gains with each alone in float32")
		}
		fmt.Fprintf(w, "    %+6.2f dB  %s\n", s.Gain, s.Layer)
	}
}

// writeSearch writes what a search found beside the model: all points, and a
// picture of the front. It returns the files.
func writeSearch(dst string, s *quantize.Search) ([]string, error) {
	if s == nil {
		return nil, nil
	}
	base := strings.TrimSuffix(dst, filepath.Ext(dst))
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	files := []string{base + ".pareto.json", base + ".pareto.svg"}
	if err := atomicfile.WriteFile(files[0], append(text, '\n'), 0o644); err != nil {
		return nil, err
	}
	return files, atomicfile.WriteFile(files[1], s.Picture(), 0o644)
}

func printSearch(w io.Writer, s *quantize.Search, files []string) {
	if s == nil {
		return
	}
	kept := "kept"
	if !s.Met {
		kept = "not kept"
	}
	fmt.Fprintf(w, "  budget of %s on %d held-out samples: %s, %d mixtures tried", s.Budget, s.Samples, kept, s.Trials)
	if s.Reused > 0 {
		fmt.Fprintf(w, " and %d taken from the checkpoint", s.Reused)
	}
	fmt.Fprintln(w)
	for _, p := range s.Points {
		if !p.Chosen && len(p.Float) > 0 {
			continue
		}
		name := "all in int8"
		if len(p.Float) > 0 {
			name = fmt.Sprintf("%d in float32", len(p.Float))
		}
		fmt.Fprintf(w, "    %-14s %5.1f dB, divergence %.2g", name, p.Quality.SQNR, p.Quality.KL)
		if p.Quality.Drop != nil {
			fmt.Fprintf(w, ", %.2f points lost [%.2f, %.2f]", *p.Quality.Drop, p.Quality.DropCI95[0], p.Quality.DropCI95[1])
		}
		if p.Ratio > 0 {
			fmt.Fprintf(w, ", latency %.2f×", p.Ratio)
		}
		if p.Chosen {
			fmt.Fprint(w, ", chosen")
		}
		fmt.Fprintln(w)
	}
	if s.Note != "" {
		fmt.Fprintf(w, "    %s\n", s.Note)
	}
	fmt.Fprintf(w, "    %s\n", strings.Join(files, ", "))
}

// printPredictions prints what is lost on other processors.
func printPredictions(w io.Writer, list []quantize.Prediction) {
	for _, p := range list {
		fmt.Fprintf(w, "  %s: %.1f dB", p.ISA, p.Quality.SQNR)
		if p.Quality.Drop != nil {
			fmt.Fprintf(w, ", %.2f points lost", *p.Quality.Drop)
		}
		if len(p.Layers) > 0 {
			fmt.Fprintf(w, "; sums can leave 16 bits in %d layers", len(p.Layers))
		}
		if len(p.Narrow) > 0 {
			fmt.Fprintf(w, ", %d have weights in 7 bits for it", len(p.Narrow))
		}
		fmt.Fprintln(w)
	}
}

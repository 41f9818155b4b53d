package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/lapidary-ml/lapidary/internal/gate"
	"github.com/lapidary-ml/lapidary/internal/validate"
	"github.com/spf13/cobra"
)

// accuracyFlags are the flags of validate that say what outputs mean and how they are scored.
type accuracyFlags struct {
	task    string
	output  string
	topK    []int
	slice   int
	head    string
	coco    string
	ignore  int
	layout  string
	gallery int
	model   string
	command string
	shell   bool
	better  string
	timeout time.Duration
	preset  string
}

func (f *accuracyFlags) register(c *cobra.Command) {
	p := c.Flags()
	p.StringVar(&f.task, "task", "auto", "what the outputs are read as: auto, by the labels; "+taskList())
	p.StringVar(&f.output, "score-output", "", "output to score; default: decided by shape")
	p.IntSliceVar(&f.topK, "top-k", []int{1, 5}, "k of top-k accuracy and of recall@k")
	p.IntVar(&f.slice, "min-slice", 10, "samples below which a class or slice is listed but not judged")
	p.StringVar(&f.head, "detection-head", "", "how outputs become boxes: a `FILE`, or as in boxes=dets,scores=conf,layout=cxcywh,normalized=true,background=0,nms=0.5")
	p.StringVar(&f.coco, "coco-classes", "id", "class of a box in a .json of COCO: its category's id, or order: its place among the categories")
	p.IntVar(&f.ignore, "ignore-label", 255, "class of label maps that is not scored; -1: none")
	p.StringVar(&f.layout, "segmentation-layout", "nchw", "where a segmentation has its classes: nchw or nhwc")
	p.IntVar(&f.gallery, "gallery", 4096, "embeddings, from the start of the data, that all others are looked up in")
	p.StringVar(&f.model, "score-model", "", "`FILE` of an ONNX graph that takes outputs by name, and labels, and gives score, one number per sample")
	p.StringVar(&f.command, "score-command", "", "`COMMAND` that reads outputs as .npz, in the place of {} or from standard input, and prints one number per sample and line")
	p.BoolVar(&f.shell, "score-shell", false, "run --score-command by sh -c")
	p.StringVar(&f.better, "score-better", "higher", "which numbers of --score-model and --score-command are better: higher or lower")
	p.DurationVar(&f.timeout, "score-timeout", time.Minute, "most time for --score-command to score a batch")
	p.StringVar(&f.preset, "policy-preset", "", "well-known gates to begin with: "+presetList())
	commandLineOnly(c, "score-command")
}

func taskList() string {
	var names []string
	for _, t := range validate.Tasks() {
		names = append(names, string(t.Name))
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

func presetList() string {
	var parts []string
	for _, p := range gate.Presets() {
		parts = append(parts, fmt.Sprintf("%s (%s)", p.Name, p.Doc))
	}
	return strings.Join(parts, ", ")
}

// apply turns the flags into options.
func (f *accuracyFlags) apply(o *validate.Options) error {
	task, err := validate.ParseTask(f.task)
	if err != nil {
		return usageError{err}
	}
	o.Task, o.Output = task, f.output
	a := &o.Accuracy
	a.TopK, a.MinSlice, a.Gallery, a.Ignore = f.topK, f.slice, f.gallery, f.ignore
	for _, k := range f.topK {
		if k < 1 {
			return usagef("--top-k %d: want numbers of at least 1", k)
		}
	}
	switch {
	case f.slice < 1 || f.gallery < 2:
		return usagef("--min-slice must be at least 1 and --gallery at least 2")
	case f.layout != "nchw" && f.layout != "nhwc":
		return usagef("--segmentation-layout %q is unknown; want nchw or nhwc", f.layout)
	case f.coco != "id" && f.coco != "order":
		return usagef("--coco-classes %q is unknown; want id or order", f.coco)
	case f.better != "higher" && f.better != "lower":
		return usagef("--score-better %q is unknown; want higher or lower", f.better)
	case f.model != "" && f.command != "":
		return usagef("--score-model and --score-command exclude each other")
	case f.shell && f.command == "":
		return usagef("--score-shell needs --score-command")
	case f.timeout <= 0:
		return usagef("--score-timeout must be above 0")
	case (f.model != "" || f.command != "") && task != validate.Auto && task != validate.Custom:
		return usagef("--task %s does not go with --score-model and --score-command, which are a task of their own", task)
	case task == validate.Custom && f.model == "" && f.command == "":
		return usagef("--task custom needs --score-model or --score-command")
	case task == validate.Detection && f.head == "":
		return usagef("--task detection needs --detection-head: how the outputs become boxes")
	}
	o.Dataset.CategoryOrder = f.coco == "order"
	a.ClassesLast = f.layout == "nhwc"
	if f.head != "" {
		if a.Head, err = validate.ParseHead(f.head); err != nil {
			return usageError{err}
		}
	}
	a.Score = validate.Score{Model: f.model, Lower: f.better == "lower", Timeout: f.timeout}
	if f.command != "" {
		if a.Score.Command, err = commandWords(f.command, f.shell); err != nil {
			return err
		}
	}
	return nil
}

// commandWords splits a command into words at spaces, where neither quotes nor a backslash keep them together; a shell gets it whole.
func commandWords(text string, shell bool) ([]string, error) {
	if shell {
		return []string{"sh", "-c", text}, nil
	}
	var words []string
	var word strings.Builder
	quote, open, escaped := rune(0), false, false
	for _, r := range text {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, open = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, open = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if open {
				words = append(words, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteRune(r)
			open = true
		}
	}
	if quote != 0 || escaped {
		return nil, usagef("--score-command: a quote or a backslash is left open")
	}
	if open {
		words = append(words, word.String())
	}
	if len(words) == 0 {
		return nil, usagef("--score-command is empty")
	}
	return words, nil
}

// withPreset returns the policy of a preset with that of the user over it.
func withPreset(name string, p gate.Policy) (gate.Policy, error) {
	if name == "" {
		return p, nil
	}
	preset, err := gate.Preset(name)
	if err != nil {
		return p, usageError{err}
	}
	return preset.Merge(p), nil
}

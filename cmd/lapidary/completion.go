package main

import (
	"slices"

	"github.com/lapidary-ml/lapidary/fuse"
	"github.com/lapidary-ml/lapidary/quantize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flagValues are the words that a flag takes, for the completion of shells: by its name, or by "command/name" where a command has others.
func flagValues() map[string][]string {
	return map[string][]string{
		"format":           {"text", "json"},
		"progress":         {"auto", "never"},
		"engine":           {"onnxruntime", "onnx-go"},
		"external-data":    {"auto", "never", "always", "keep"},
		"inconclusive":     {"fail", "pass"},
		"roofline":         rooflineModes,
		"target":           append(slices.Clone(fuse.TargetNames), "auto"),
		"quantize/target":  quantizeTargets(),
		"calibrate":        quantize.Methods(),
		"to":               {"int8", "int4", "fp16", "bf16"},
		"for":              {"speed", "size"},
		"score-better":     {"higher", "lower"},
		"coco-classes":     {"id", "order"},
		"bisect/command":   {"fuse", "prune", "quantize", "none"},
		"bisect/predicate": {"load", "run", "wrong"},
		"verify/type":      {"auto", "report", "test-result", "provenance", "model"},
	}
}

// filesOf are the extensions of the files that a flag, or the arguments of a command, name.
var filesOf = map[string][]string{"key": {"key", "pub"}, "sign": {"key"}, "policy-key": {"pub"}, "policy": {"json", "yaml"}, "config": {"yaml", "yml"}, "model": {"onnx"}}

// modelCommands take models as their arguments.
var modelCommands = []string{"profile", "fuse", "prune", "quantize", "validate", "diff", "bisect", "sign"}

// complete tells the shells what may follow where a command or a flag takes one of a few words, or files of a kind.
func complete(root *cobra.Command) {
	values := flagValues()
	for _, c := range append(root.Commands(), root) {
		register := func(f *pflag.Flag) {
			words, ok := values[c.Name()+"/"+f.Name]
			if !ok {
				words = values[f.Name]
			}
			switch {
			case words != nil:
				c.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
			case filesOf[f.Name] != nil:
				c.MarkFlagFilename(f.Name, filesOf[f.Name]...)
			}
		}
		c.LocalFlags().VisitAll(register)
		if slices.Contains(modelCommands, c.Name()) {
			c.ValidArgsFunction = cobra.FixedCompletions([]string{"onnx"}, cobra.ShellCompDirectiveFilterFileExt)
		}
	}
}

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
)

// writtenFlags name files that a command writes beside its main result. They must
// not be files that it reads.
var writtenFlags = []string{"output", "log", "html", "trace", "prometheus", "bench", "layers", "statistics", "checkpoint", "audit-log", "reduce", "save-optimized"}

// inputFlags name files that a command reads, beside readFlags.
var inputFlags = []string{"key", "sign", "passphrase-file", "detection-head", "score-model", "redact-key"}

// keepInputs refuses a flag that would have the command write over one of its
// inputs, or over a file that an input has its weights in. A command that rewrites
// a model looks after its main result itself: see --in-place.
func keepInputs(c *cobra.Command, args []string) error {
	inputs := slices.Clone(args)
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if slices.Contains(inputFlags, f.Name) || slices.Contains(readFlags, f.Name) && !slices.Contains(writtenFlags, f.Name) {
			inputs = append(inputs, f.Value.String())
		}
	})
	for _, name := range writtenFlags {
		f := c.Flags().Lookup(name)
		if f == nil || f.Value.String() == "" || name == "output" && c.Flags().Lookup("in-place") != nil {
			continue
		}
		if input := sharedWith(f.Value.String(), inputs); input != "" {
			return fmt.Errorf("--%s %s would write over the input %s; name another file", name, f.Value, input)
		}
	}
	return nil
}

// sharedWith returns the first of the inputs that is the regular file at path, or a
// model with weights in it; "" where none is.
func sharedWith(path string, inputs []string) string {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	is := func(other string) bool {
		x, err := os.Stat(other)
		return err == nil && os.SameFile(info, x)
	}
	for _, in := range inputs {
		if is(in) {
			return in
		}
		if filepath.Ext(in) != ".onnx" {
			continue
		}
		m, err := onnxfile.Open(in, onnxfile.Options{NoExternalData: true})
		if err != nil {
			continue // which is for the command to say
		}
		files := m.ExternalFiles()
		m.Close()
		for _, name := range files {
			if is(filepath.Join(filepath.Dir(in), filepath.FromSlash(name))) {
				return in
			}
		}
	}
	return ""
}

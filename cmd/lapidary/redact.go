package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/atomicfile"
	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/readfile"
	"github.com/lapidary-ml/lapidary/internal/report"
	"github.com/spf13/cobra"
)

// redactFlags say whether a report may have names.
type redactFlags struct {
	on  bool
	key string // file for the key, "" to forget it
}

func (f *redactFlags) register(c *cobra.Command) {
	c.Flags().BoolVar(&f.on, "redact", false, "put hashes in the place of the names of files, nodes, classes and slices, in every form of the report")
	c.Flags().StringVar(&f.key, "redact-key", "", "new `FILE` for the key of --redact, by which its owner can tell which name a hash stands for; default: nobody keeps it")
}

// newKey makes the key of one report, and keeps it where that was asked for. The
// file must be new: a key that two reports share would show which names they share.
func (f *redactFlags) newKey() ([]byte, error) {
	if !f.on {
		if f.key != "" {
			return nil, usagef("--redact-key is for --redact, which was not given")
		}
		return nil, nil
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making a key for --redact: %w", err)
	}
	if f.key == "" {
		return key, nil
	}
	err := atomicfile.WriteNew(f.key, fmt.Appendf(nil, "%x\n", key), 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, usagef("--redact-key %s exists; each report has a key of its own, so name a new file", f.key)
	}
	if err != nil {
		return nil, fmt.Errorf("writing --redact-key: %w", err)
	}
	return key, nil
}

// readRedactKey reads a key that newKey kept.
func readRedactKey(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readfile.All(path, 1<<10)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("reading %s: it is not a key of --redact, which is 64 hexadecimal digits", path)
	}
	return key, nil
}

// redact takes the names out of the report, also those that only its warnings
// could mention: of all nodes and values of both models.
func (f *redactFlags) redact(r *report.Report, key []byte, dataSpec string, models ...string) error {
	if key == nil {
		return nil
	}
	words := strings.Split(dataSpec, ",")
	for _, spec := range strings.Split(dataSpec, ",") {
		words = append(words, filepath.Base(spec))
	}
	for _, path := range models {
		names, err := namesIn(path)
		if err != nil {
			return err
		}
		words = append(words, path, filepath.Base(path))
		words = append(words, names...)
	}
	r.Redact(key, words)
	return nil
}

// namesIn returns the names of a model's nodes and values.
func namesIn(path string) ([]string, error) {
	m, err := onnxfile.Open(path, onnxfile.Options{MissingExternalData: true})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	var out []string
	add := func(name string) {
		if name != "" {
			out = append(out, strings.Clone(name)) // the file will be unmapped
		}
	}
	for _, g := range m.Graphs() {
		for _, v := range g.Inputs() {
			add(v.Name())
		}
		for n := range g.Nodes() {
			add(n.Name)
			for _, v := range n.Outputs() {
				if v != nil {
					add(v.Name())
				}
			}
		}
	}
	return out, nil
}

// redactSubjects gives the files to be signed the names that the report has.
func redactSubjects(key []byte, files []attest.Subject) {
	if key == nil {
		return
	}
	for i := range files {
		files[i].Name = report.RedactedName(key, files[i].Name)
	}
}

// checkRedacted holds a model and its data files against evidence whose names were
// redacted. With the key each file must have the content that was signed for its
// name. Without it names cannot be told apart, which is enough for one data file: two
// could have been exchanged.
func checkRedacted(ctx context.Context, v *attest.Verified, model string, external []string, key []byte) error {
	refuse := func(format string, args ...any) error {
		return &attest.RejectedError{Reason: attest.ReasonDigest, Detail: fmt.Sprintf(format, args...)}
	}
	if len(external) > 1 && key == nil {
		return refuse("the names in the evidence are redacted, and %s reads %d data files, which could have been exchanged; give the key with --redact-key", model, len(external))
	}
	files, err := attest.HashModel(ctx, model, external)
	if err != nil {
		return err
	}
	signed := v.Files()
	if len(files) != len(signed) {
		return refuse("%s is %d files, and the evidence covers %d", model, len(files), len(signed))
	}
	for _, f := range files[1:] {
		found := false
		for _, s := range signed {
			found = found || s.SHA256 == f.SHA256 && (key == nil || s.Name == report.RedactedName(key, f.Name))
		}
		if !found {
			return refuse("%s has the SHA-256 %s, which the evidence does not cover under its name", filepath.Join(filepath.Dir(model), f.Name), f.SHA256)
		}
	}
	return nil
}

// isRedacted reports whether the evidence has redacted names.
func isRedacted(v *attest.Verified) bool {
	for _, s := range v.Subjects() {
		if report.IsRedacted(s.Name) {
			return true
		}
	}
	return false
}

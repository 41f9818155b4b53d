package evidence

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/attest"
	"github.com/lapidary-ml/lapidary/internal/report"
)

// ProvenanceType is the predicate type of SLSA provenance v1: slsa.dev/spec/v1.1/provenance.
const ProvenanceType = "https://slsa.dev/provenance/v1"

const (
	// buildType says how the parameters below are to be read: each step is a lapidary
	// command line that reads the model which the step before it wrote.
	buildType = "https://lapidary-ml.github.io/build/rewrite/v1"
	// builderID says who vouches for the steps: nobody saw them, they are what the
	// model's own metadata carries, and the signer read them there.
	builderID = "https://lapidary-ml.github.io/builders/model-history/v1"
)

// provenance is SLSA provenance, as far as a model's history fills it.
type provenance struct {
	BuildDefinition buildDefinition `json:"buildDefinition"`
	RunDetails      runDetails      `json:"runDetails"`
}

type buildDefinition struct {
	BuildType          string             `json:"buildType"`
	ExternalParameters externalParameters `json:"externalParameters"`
	InternalParameters internalParameters `json:"internalParameters"`
	Dependencies       []descriptor       `json:"resolvedDependencies"`
}

type externalParameters struct {
	Steps []command `json:"steps"`
}

// command is what a user asked for.
type command struct {
	Command string   `json:"command"`
	Options []string `json:"options,omitempty"`
}

type internalParameters struct {
	Source string  `json:"source"` // where the steps were read
	Steps  []doing `json:"steps"`
}

// doing is what the tool says of a step.
type doing struct {
	Tool     string `json:"tool"`
	Verified bool   `json:"verified"` // the result was run beside its input before it was written
}

type runDetails struct {
	Builder    builder      `json:"builder"`
	Metadata   metadata     `json:"metadata"`
	Byproducts []descriptor `json:"byproducts,omitempty"`
}

type builder struct {
	ID      string            `json:"id"`
	Version map[string]string `json:"version,omitempty"`
}

type metadata struct {
	InvocationID string `json:"invocationId"`
}

// newProvenance says how the candidate was made, as far as it says so itself; nil where
// it says nothing.
func newProvenance(r *report.Report) *provenance {
	steps := r.Candidate.History
	if len(steps) == 0 {
		return nil
	}
	p := &provenance{
		BuildDefinition: buildDefinition{BuildType: buildType, InternalParameters: internalParameters{Source: "metadata_props of the subject"}},
		RunDetails:      runDetails{Builder: builder{ID: builderID}},
	}
	b, run := &p.BuildDefinition, &p.RunDetails
	b.Dependencies = originals(r, steps[0].InputSHA256)
	var calibration []string
	for i, s := range steps {
		b.ExternalParameters.Steps = append(b.ExternalParameters.Steps, command{s.Command, s.Options})
		b.InternalParameters.Steps = append(b.InternalParameters.Steps, doing{s.Tool, s.Verified})
		if i > 0 {
			run.Byproducts = append(run.Byproducts, describe(fmt.Sprintf("model after step %d, %s", i, steps[i-1].Command), s.InputSHA256, ""))
		}
		calibration = append(calibration, s.Calibration...)
	}
	slices.Sort(calibration)
	for _, digest := range slices.Compact(calibration) {
		b.Dependencies = append(b.Dependencies, describe("calibration data", digest, "over the rows in order"))
	}
	last := steps[len(steps)-1]
	if name, version, ok := strings.Cut(last.Tool, " "); ok {
		run.Builder.Version = map[string]string{name: version}
	}
	run.Metadata.InvocationID = invocation(last)
	return p
}

// originals names the model that the first step read. Its external files are known only
// where it is the baseline.
func originals(r *report.Report, digest string) []descriptor {
	if digest != r.Baseline.SHA256 {
		return []descriptor{describe("original model", digest, "the model file alone")}
	}
	out := []descriptor{describe(r.Baseline.Name, digest, "original model, which is the baseline")}
	for _, f := range r.Baseline.External {
		out = append(out, describe(f.Path, f.SHA256, "external data of the original model"))
	}
	return out
}

// invocation identifies the last step by what it was: the same command with the same
// options on the same input gives the same model.
func invocation(s report.Step) string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("evidence: a step cannot be encoded: %v", err)) // it has only strings and a flag
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(data))
}

// ReadProvenance returns the command lines of verified provenance of our build type, in
// their order, and the originals and data that they read.
func ReadProvenance(v *attest.Verified) (steps, inputs []string, err error) {
	var p provenance
	if err := attest.UnmarshalStrict(v.Predicate(), &p, attest.JSONOptions{AllowUnknown: true}); err != nil {
		return nil, nil, reject("the signed provenance cannot be read: %v", err)
	}
	if got := p.BuildDefinition.BuildType; got != buildType {
		return nil, nil, reject("the signed provenance is of the build type %q, want %q", got, buildType)
	}
	for _, c := range p.BuildDefinition.ExternalParameters.Steps {
		steps = append(steps, strings.Join(append([]string{c.Command}, c.Options...), " "))
	}
	if len(steps) == 0 {
		return nil, nil, reject("the signed provenance has no steps, so it says nothing")
	}
	for _, d := range p.BuildDefinition.Dependencies {
		inputs = append(inputs, fmt.Sprintf("%s sha256:%s", d.Name, d.Digest["sha256"]))
	}
	return steps, inputs, nil
}

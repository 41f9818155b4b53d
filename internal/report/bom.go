package report

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// BOM returns a CycloneDX 1.6 bill of materials of the candidate: what it is, the baseline that it descends from, and the measured
// figures as its model card. Equal reports give equal bytes.
func (r *Report) BOM() ([]byte, error) {
	b := cdx.NewBOM()
	b.SerialNumber = r.serial()
	candidate := bomModel(&r.Candidate, "candidate")
	baseline := bomModel(&r.Baseline, "baseline")
	candidate.Pedigree = &cdx.Pedigree{Ancestors: &[]cdx.Component{baseline}, Notes: bomHistory(r.Candidate.History)}
	candidate.ModelCard = &cdx.MLModelCard{
		BOMRef:               "candidate-card",
		ModelParameters:      r.bomParameters(),
		QuantitativeAnalysis: bomMetrics(r),
		Considerations:       r.bomConsiderations(),
	}
	properties := append(*candidate.Properties, cdx.Property{Name: "lapidary:verdict", Value: clean(string(r.Verdict))})
	candidate.Properties = &properties
	tool := cdx.Component{Type: cdx.ComponentTypeApplication, Name: clean(r.Tool.Name), Version: clean(r.Tool.Version), Hashes: bomHashes(r.Tool.SHA256)}
	b.Metadata = &cdx.Metadata{Component: &candidate, Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{tool}}}
	if !r.Finished.IsZero() {
		b.Metadata.Timestamp = r.Finished.UTC().Format(time.RFC3339)
	}
	var buf bytes.Buffer
	if err := cdx.NewBOMEncoder(&buf, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(b, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("encoding the bill of materials: %v", err)
	}
	return buf.Bytes(), nil
}

// serial returns a UUID that is the same for the same comparison (version 8 of RFC 9562: our own digest).
func (r *Report) serial() string {
	sum := sha256.Sum256([]byte(strings.Join([]string{r.Candidate.SHA256, r.Baseline.SHA256, r.Started.UTC().String(), r.Finished.UTC().String()}, "\n")))
	sum[6], sum[8] = sum[6]&0x0f|0x80, sum[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// bomModel returns a model and its external data as a component.
func bomModel(m *Model, ref string) cdx.Component {
	c := cdx.Component{
		BOMRef: ref, Type: cdx.ComponentTypeMachineLearningModel, Name: clean(m.Name), Hashes: bomHashes(m.SHA256),
		Properties: &[]cdx.Property{
			{Name: "lapidary:bytes", Value: strconv.FormatInt(m.Bytes, 10)},
			{Name: "lapidary:parameters", Value: strconv.FormatInt(m.Parameters, 10)},
		},
	}
	var files []cdx.Component
	for i, f := range m.External {
		files = append(files, cdx.Component{BOMRef: fmt.Sprintf("%s-data-%d", ref, i+1), Type: cdx.ComponentTypeFile, Name: clean(f.Path), Hashes: bomHashes(f.SHA256)})
	}
	if len(files) > 0 {
		c.Components = &files
	}
	return c
}

// bomHashes returns a digest where it is one, else nil.
func bomHashes(digest string) *[]cdx.Hash {
	if len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
		return nil
	}
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: digest}}
}

func bomHistory(steps []Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, clean(strings.Join(append([]string{s.Command}, s.Options...), " ")))
	}
	return strings.Join(out, "; ")
}

// bomParameters names the task and the data.
func (r *Report) bomParameters() *cdx.MLModelParameters {
	p := &cdx.MLModelParameters{}
	if r.Accuracy != nil {
		p.Task = clean(r.Accuracy.Task)
	}
	var sets []cdx.MLDatasetChoice
	add := func(ref, name, description string) {
		sets = append(sets, cdx.MLDatasetChoice{ComponentData: &cdx.ComponentData{BOMRef: ref, Type: cdx.ComponentDataTypeDataset, Name: clean(name), Description: description}})
	}
	if d := r.Data; d != nil {
		add("validation-data", d.Name, fmt.Sprintf("validation data, %d samples, SHA-256 over its rows %s", d.Samples, clean(d.Digest)))
	}
	for i, s := range r.Candidate.History {
		for j, c := range s.Calibration {
			add(fmt.Sprintf("calibration-data-%d-%d", i+1, j+1), "calibration data", fmt.Sprintf("calibration data of step %d, SHA-256 over its rows %s", i+1, clean(c)))
		}
	}
	if len(sets) > 0 {
		p.Datasets = &sets
	}
	return p
}

// bomConsiderations repeats the doubts about the measurement, and what every gate found.
func (r *Report) bomConsiderations() *cdx.MLModelCardConsiderations {
	var limits, tradeoffs []string
	for _, w := range r.Warnings {
		limits = append(limits, clean(w))
	}
	if r.Latency != nil && r.Latency.Noise != nil {
		for _, w := range r.Latency.Noise.Warnings {
			limits = append(limits, clean(w))
		}
	}
	for _, s := range r.Skipped {
		limits = append(limits, clean(s.Section)+" was not measured: "+clean(s.Reason))
	}
	for _, g := range r.Gates {
		tradeoffs = append(tradeoffs, fmt.Sprintf("%s: %s requires %s: %s", clean(string(g.Verdict)), clean(g.Name), g.requirement(), clean(g.Reason)))
	}
	c := &cdx.MLModelCardConsiderations{}
	if len(limits) > 0 {
		c.TechnicalLimitations = &limits
	}
	if len(tradeoffs) > 0 {
		c.PerformanceTradeoffs = &tradeoffs
	}
	return c
}

package gate

import (
	"fmt"
	"strings"
)

// PresetInfo describes a policy that is known by name.
type PresetInfo struct {
	Name string
	Doc  string // one line for people

	gates []Gate
}

// Presets returns the policies that are known by name. Those of MLPerf are its accuracy targets for the closed division of
// inference: a result counts where the metric is at least 99 %, or 99.9 %, of that of the float32 reference model. MLPerf compares two
// numbers; here the whole interval of their ratio must lie at or above the target.
//
// Source: MLCommons, inference rules, section "Model quality targets", github.com/mlcommons/inference_policies.
func Presets() []PresetInfo {
	return []PresetInfo{
		{"mlperf-99", "at least 99 % of the baseline's metric", []Gate{{"mlperf-99", "accuracy.ratio", ">=", 0.99}}},
		{"mlperf-99.9", "at least 99.9 % of it", []Gate{{"mlperf-99.9", "accuracy.ratio", ">=", 0.999}}},
	}
}

// Preset returns the policy of that name.
func Preset(name string) (Policy, error) {
	var names []string
	for _, p := range Presets() {
		if p.Name == name {
			return Policy{Source: "preset " + name, Gates: p.gates}, nil
		}
		names = append(names, p.Name)
	}
	return Policy{}, fmt.Errorf("there is no preset %q; the presets are %s", name, strings.Join(names, " and "))
}

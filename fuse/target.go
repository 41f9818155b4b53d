package fuse

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/opset"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// Target is what the fused model is to run on. The zero value is the portable
// target: standard operators at the opset that the model imports.
type Target struct {
	Name string // portable, ort-cpu, ort-cuda, tensorrt, openvino
	// Kernel reports whether the engine at hand computes an operator of an
	// element type: probed on that engine, never assumed. Nil: the target has
	// standard operators only, all but those it is documented not to have.
	Kernel func(domain, op string, version int64, d onnx.DType) bool

	maxGrowth int64    // bytes by which one rewrite may grow the model
	enabled   []string // rules asked for that are off by default
	norm      normRead // the normalization that was read last
}

// Own reports whether the target runs operators of ONNX Runtime's own domain.
func (t *Target) Own() bool { return t.runtime().own }

// GPU reports whether the target is a GPU, where fewer kernels launched pay more
// than fewer elements touched.
func (t *Target) GPU() bool { return t.runtime().gpu }

// offer declines unless a rule may emit op for the node m matched: the operator
// exists at the opset in force, and the target has a kernel of element type d.
func (t *Target) offer(m *rewrite.Match, domain, op string, d onnx.DType) error {
	if onnx.NormalDomain(domain) != "" && !t.Own() {
		return rewrite.Decline("the target %s has no %s.%s", t.name(), domain, op)
	}
	version := m.Root.OpsetVersion(domain)
	if onnx.NormalDomain(domain) != "" {
		version = max(version, 1)
	}
	if opset.Lookup(domain, op, version) == nil {
		return rewrite.Decline("%s needs a later opset than %d", op, version)
	}
	if err := t.runtime().has(domain, op, d); err != nil && !hasOp(m.Root.Graph(), op) {
		return err
	}
	if t.Kernel != nil && !t.Kernel(domain, op, version, d) {
		return rewrite.Decline("the engine has no kernel of %s for %v", op, d)
	}
	return nil
}

func (t *Target) name() string {
	if t.Name == "" {
		return TargetNames[0]
	}
	return t.Name
}

// growth is by how many bytes one rewrite may grow the model.
func (t *Target) growth() int64 { return t.maxGrowth }

// asked reports whether a rule that is off by default was asked for by name.
func (t *Target) asked(rule string) bool { return slices.Contains(t.enabled, rule) }

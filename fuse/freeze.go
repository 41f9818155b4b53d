package fuse

import (
	"context"
	"fmt"
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/rewrite"
)

// freeze makes constants of inputs that have a default. From IR version 4 on a
// caller may override such an input, so that no engine folds or packs it; files
// that list all weights as inputs run at half speed for it.
//
// Below IR version 4 the runtime takes such inputs for constants anyhow; there
// they leave the inputs, and the model becomes one of IR version 4, since every
// rewrite may add constants that are not inputs.
type freeze struct {
	keep bool // leave inputs of IR version 4 and above as they are
}

func (freeze) Name() string { return "freeze" }

// Doc says what the pass does.
func (freeze) Doc() string {
	return "makes inputs with a default value constants, so that they can be folded and packed"
}

// Run takes the inputs with a default out of the main graph's inputs, each a
// firing of its own. Where one is left out, callers may override it.
func (f freeze) Run(_ context.Context, m *onnx.Model, e *rewrite.Env) error {
	if e.Exhausted() || f.keep && m.IRVersion >= 4 {
		return nil
	}
	old := m.IRVersion < 4
	m.IRVersion = max(m.IRVersion, 4)
	note := "callers can no longer override it"
	if old {
		note = "below IR version 4 it is a constant anyhow"
	}
	frozen := 0
	for _, v := range slices.Clone(m.Graph.Inputs()) {
		if v.Const == nil || !e.AllowPart("freeze", v.Name()) {
			continue
		}
		site := e.AtPart("freeze", v.Name(), fmt.Sprintf("input %q", v.Name()))
		if err := m.Graph.Freeze(v); err != nil {
			return err
		}
		if err := e.Fired("freeze", site, 0, 0, note); err != nil {
			return err
		}
		frozen++
	}
	if frozen > 0 && !old {
		e.Log.Notice("made %d inputs with a default value constants; callers can no longer override them (keep them with --keep-inputs)", frozen)
	}
	return nil
}

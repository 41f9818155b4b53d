package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/device"
	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/onnx/onnxfile"
	"github.com/lapidary-ml/lapidary/internal/worker"
	"github.com/lapidary-ml/lapidary/profile"
	"github.com/spf13/cobra"
)

// finding is one thing that doctor looked at.
type finding struct {
	Subject string `json:"subject"`
	OK      bool   `json:"ok"`
	Detail  string `json:"detail"`
}

// diagnosis is the JSON document of doctor.
type diagnosis struct {
	Schema   string         `json:"schema"`
	Tool     string         `json:"tool"`
	Machine  device.Machine `json:"machine"`
	Findings []finding      `json:"findings"`
}

func (a *app) doctorCommand() *cobra.Command {
	var ef engineFlags
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine is, and whether everything needed works",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			d := a.diagnose(c.Context(), ef)
			if a.json() {
				if err := writeJSON(a.env.stdout, d); err != nil {
					return err
				}
			} else {
				a.printDiagnosis(d)
			}
			for _, f := range d.Findings {
				if !f.OK {
					return fmt.Errorf("%s: %s", f.Subject, f.Detail)
				}
			}
			return nil
		},
	}
	ef.register(c)
	return c
}

func (a *app) diagnose(ctx context.Context, ef engineFlags) diagnosis {
	d := diagnosis{Schema: schemaURI("doctor-v1"), Tool: "lapidary " + version() + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH}
	add := func(subject string, err error, format string, args ...any) {
		if err != nil {
			d.Findings = append(d.Findings, finding{subject, false, err.Error()})
			return
		}
		d.Findings = append(d.Findings, finding{subject, true, fmt.Sprintf(format, args...)})
	}
	e, err := a.engine(ctx, ef)
	if err != nil {
		d.Machine = device.Read(device.Options{})
		add("engine", err, "")
		return d
	}
	d.Machine = e.machine
	add("engine", nil, "%s %s (%s)", e.info.Name, e.info.Version, strings.Join(e.info.Providers, ", "))
	if e.info.Library != "" {
		add("library", nil, "%s", e.info.Library)
	}
	add("device", nil, "%s: %s", e.choice.Device, e.choice.Reason)
	add("threads", nil, "%d: %s", e.threads.N, e.threads.Reason)
	sandbox, err := tryModel(ctx, e)
	add("worker", err, "ran a model in %s", sandbox)
	return d
}

// tryModel runs a model of one node in a worker.
func tryModel(ctx context.Context, e *engine) (string, error) {
	dir, err := os.MkdirTemp("", "lapidary-doctor-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	m := onnx.NewModel(9)
	x := m.Graph.AddInput("x", onnx.TensorType(onnx.Float, onnx.ShapeOf(2)))
	n := onnx.NewNode("Add", []*onnx.Value{x, x}, "y")
	m.Graph.Append(n)
	n.Output(0).Type = x.Type
	m.Graph.AddOutput(n.Output(0))
	path := filepath.Join(dir, "add.onnx")
	if _, err := onnxfile.Write(path, m, onnxfile.WriteOptions{}); err != nil {
		return "", err
	}
	s, err := e.open(ctx, path, e.options)
	if err != nil {
		return "", err
	}
	defer s.Close()
	r, err := s.Run(ctx, map[string]*onnx.Tensor{"x": onnx.FromFloats("x", []int64{2}, []float32{1, 2})})
	if err != nil {
		return "", err
	}
	if y, err := r.Outputs["y"].Floats(); err != nil || len(y) != 2 || y[0] != 2 || y[1] != 4 {
		return "", fmt.Errorf("1+1 and 2+2 gave %v (%v)", y, err)
	}
	if c, ok := s.(worker.Confined); ok {
		return c.Sandbox().String(), nil
	}
	return "a process of its own", nil
}

func (a *app) printDiagnosis(d diagnosis) {
	w := a.env.stdout
	m := d.Machine
	fmt.Fprintln(w, d.Tool)
	fmt.Fprintf(w, "  %-9s %s, %d logical processors, %d cores, %d sockets\n", "cpu", m.CPU.Model, m.CPU.Logical, m.CPU.Cores, m.CPU.Sockets)
	fmt.Fprintf(w, "  %-9s %s\n", "isa", strings.Join(m.CPU.ISA, " "))
	fmt.Fprintf(w, "  %-9s %s\n", "memory", bytesText(m.Limits.MemoryTotal))
	facts := profile.NewMachineFacts(m, 0)
	fmt.Fprintf(w, "  %-9s %s\n", "limits", facts.Limits())
	fmt.Fprintf(w, "  %-9s %s (%s)\n", "advised", facts.Flag, facts.Reason)
	for _, text := range facts.Warnings {
		fmt.Fprintf(w, "  %-9s %s\n", "warning", text)
	}
	if len(m.GPUs.Devices) == 0 {
		fmt.Fprintf(w, "  %-9s none: %s\n", "gpu", m.GPUs.Reason)
	}
	for _, g := range m.GPUs.Devices {
		fmt.Fprintf(w, "  %-9s %s\n", "gpu", gpuText(g))
	}
	for _, f := range d.Findings {
		mark := "ok"
		if !f.OK {
			mark = "FAILED"
		}
		fmt.Fprintf(w, "  %-9s %s (%s)\n", f.Subject, f.Detail, mark)
	}
}

// gpuText describes a GPU in a line, without what it does not tell.
func gpuText(g device.GPU) string {
	text := fmt.Sprintf("%s, %s of %s used", g.Name, bytesText(int64(g.MemoryUsed)), bytesText(int64(g.MemoryTotal)))
	if g.ComputeMode != "" {
		text += ", compute mode " + g.ComputeMode
	}
	if g.MIG {
		text += ", MIG"
	}
	if g.Power > 0 {
		text += fmt.Sprintf(", %.0f W", g.Power)
	}
	if g.Temperature > 0 {
		text += fmt.Sprintf(", %d °C", g.Temperature)
	}
	if len(g.Slowdown) > 0 {
		text += ", limited by " + strings.Join(g.Slowdown, ", ")
	}
	if n := len(g.Others); n > 0 {
		text += fmt.Sprintf(", %d other processes on it: times vary, and shared hardware can give away what runs", n)
	}
	return text
}

//go:build cgo

package ort

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	binding "github.com/yalue/onnxruntime_go"

	"github.com/lapidary-ml/lapidary/internal/session"
)

// cpuProvider is the execution provider that every library has.
const cpuProvider = "CPUExecutionProvider"

// providerPrefix marks the entries of [session.Options.Config] that go to the
// execution provider; the others are session settings.
const providerPrefix = "provider."

// device is a parsed [session.Options.Device].
type device struct {
	kind, arg string
	provider  string // as the runtime names it
}

var providers = map[string]string{
	"cpu": cpuProvider, "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider",
	"openvino": "OpenVINOExecutionProvider", "coreml": "CoreMLExecutionProvider",
	"directml": "DmlExecutionProvider", "xnnpack": "XnnpackExecutionProvider",
}

func parseDevice(s string) (device, error) {
	kind, arg, _ := strings.Cut(s, ":")
	if kind == "" {
		kind = "cpu"
	}
	d := device{kind: strings.ToLower(kind), arg: arg, provider: providers[strings.ToLower(kind)]}
	switch d.kind {
	case "cuda", "tensorrt", "directml":
		if n, err := strconv.Atoi(arg); arg != "" && (err != nil || n < 0) {
			return d, fmt.Errorf("device %q: %q is not the number of a GPU; give %s or %s:N", s, arg, d.kind, d.kind)
		}
	case "openvino":
	default:
		if d.provider == "" {
			return d, fmt.Errorf("device %q is unknown; give cpu, cuda[:N], tensorrt[:N], openvino[:DEVICE], coreml, directml[:N] or xnnpack", s)
		}
		if arg != "" {
			return d, fmt.Errorf("device %q: %s takes no argument", s, d.kind)
		}
	}
	return d, nil
}

// use asks for d in the options of a session to be.
func (d device) use(o *binding.SessionOptions, have []string, config map[string]string) error {
	own := map[string]string{}
	for k, v := range config {
		if key, ok := strings.CutPrefix(k, providerPrefix); ok {
			own[key] = v
		}
	}
	if d.kind == "cpu" {
		if len(own) > 0 {
			return fmt.Errorf("settings with the prefix %q need a device other than cpu", providerPrefix)
		}
		return nil
	}
	if !slices.Contains(have, d.provider) {
		return fmt.Errorf("device %s: this ONNX Runtime library has no %s (it has %s); name a library that has it with --ort-lib",
			d.kind, d.provider, strings.Join(have, ", "))
	}
	if err := d.append(o, own, have); err != nil {
		return fmt.Errorf("device %s: %s", d.kind, tidy(err.Error()))
	}
	return nil
}

func (d device) append(o *binding.SessionOptions, own map[string]string, have []string) error {
	switch d.kind {
	case "cuda":
		return d.appendCUDA(o, own)
	case "tensorrt":
		if err := d.appendTensorRT(o, own); err != nil {
			return err
		}
		if slices.Contains(have, providers["cuda"]) { // takes the nodes that TensorRT cannot
			return d.appendCUDA(o, nil)
		}
		return nil
	case "openvino":
		if d.arg != "" {
			own["device_type"] = d.arg
		}
		return o.AppendExecutionProviderOpenVINO(own)
	case "coreml":
		return o.AppendExecutionProviderCoreMLV2(own)
	case "directml":
		n, _ := strconv.Atoi(d.arg)
		return o.AppendExecutionProviderDirectML(n)
	}
	return o.AppendExecutionProvider("XNNPACK", own)
}

func (d device) appendCUDA(o *binding.SessionOptions, own map[string]string) error {
	c, err := binding.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	defer c.Destroy()
	if err := c.Update(withDevice(own, d.arg)); err != nil {
		return err
	}
	return o.AppendExecutionProviderCUDA(c)
}

func (d device) appendTensorRT(o *binding.SessionOptions, own map[string]string) error {
	c, err := binding.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	defer c.Destroy()
	if err := c.Update(withDevice(own, d.arg)); err != nil {
		return err
	}
	return o.AppendExecutionProviderTensorRT(c)
}

func withDevice(own map[string]string, id string) map[string]string {
	out := map[string]string{}
	for k, v := range own {
		out[k] = v
	}
	if id != "" {
		out["device_id"] = id
	}
	return out
}

// level translates to the runtime's optimization level.
func level(l session.Level) (binding.GraphOptimizationLevel, error) {
	switch l {
	case session.LevelAll:
		return binding.GraphOptimizationLevelEnableAll, nil
	case session.LevelOff:
		return binding.GraphOptimizationLevelDisableAll, nil
	case session.LevelBasic:
		return binding.GraphOptimizationLevelEnableBasic, nil
	case session.LevelExtended:
		return binding.GraphOptimizationLevelEnableExtended, nil
	}
	return 0, fmt.Errorf("optimization level %d is unknown", l)
}

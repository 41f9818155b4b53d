package device

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Choice is the device to open a session on.
type Choice struct {
	// Device in the form that an engine takes: cpu, cuda:0, openvino:GPU.
	Device string `json:"device"`
	// Provider is ONNX Runtime's name of the execution provider.
	Provider string `json:"provider"`
	// GPU is the one that Device names, where it is known.
	GPU *GPU `json:"gpu,omitempty"`
	// Reason says why it was chosen, in one sentence.
	Reason string `json:"reason"`
	// Warnings are what may disturb work on it, one sentence each.
	Warnings []string `json:"warnings,omitempty"`
}

// kind is a family of devices.
type kind struct {
	provider string
	nvidia   bool // the argument is a CUDA ordinal
	number   bool // the argument is a number
	argument bool // an argument is allowed
}

const cpuProvider = "CPUExecutionProvider"

// kinds are the devices that a request can name.
var kinds = map[string]kind{
	"cpu":      {provider: cpuProvider},
	"cuda":     {provider: "CUDAExecutionProvider", nvidia: true, number: true, argument: true},
	"tensorrt": {provider: "TensorrtExecutionProvider", nvidia: true, number: true, argument: true},
	"openvino": {provider: "OpenVINOExecutionProvider", argument: true},
	"directml": {provider: "DmlExecutionProvider", number: true, argument: true},
	"coreml":   {provider: "CoreMLExecutionProvider"},
	"xnnpack":  {provider: "XnnpackExecutionProvider"},
}

const kindList = "auto, cpu, cuda[:N], tensorrt[:N], openvino[:DEVICE], directml[:N], coreml or xnnpack"

// Choose decides which device a request means: "auto" (also ""), or one of cpu, cuda[:N], tensorrt[:N],
// openvino[:DEVICE], directml[:N], coreml, xnnpack. providers are the execution providers of the ONNX Runtime library,
// in its own names.
//
// auto is the CUDA GPU with the fewest other processes, then the most free memory, where the library can use CUDA, and
// the CPU everywhere else: TensorRT, OpenVINO, Core ML and DirectML compile models at length or compute in other
// precisions, and so are for whoever asks for them.
func Choose(request string, providers []string, m Machine) (Choice, error) {
	request = strings.TrimSpace(request)
	if request == "" || strings.EqualFold(request, "auto") {
		return chooseAuto(providers, m), nil
	}
	name, arg, hasArg := strings.Cut(request, ":")
	name = strings.ToLower(name)
	k, ok := kinds[name]
	if !ok {
		return Choice{}, fmt.Errorf("device %q is unknown: want %s", request, kindList)
	}
	if hasArg && !k.argument {
		return Choice{}, fmt.Errorf("device %q: %s takes no argument", request, name)
	}
	if hasArg && arg == "" {
		return Choice{}, fmt.Errorf("device %q: nothing follows the colon: want %s", request, kindList)
	}
	n := 0
	if k.number && hasArg {
		var err error
		if n, err = strconv.Atoi(arg); err != nil || n < 0 {
			return Choice{}, fmt.Errorf("device %q: %q is not the number of a GPU: give %s or %s:N", request, arg, name, name)
		}
	}
	if name != "cpu" && !slices.Contains(providers, k.provider) {
		return Choice{}, fmt.Errorf("device %s: this ONNX Runtime library has no %s (it has %s): name a build that has it by --ort-lib, or install one by `lapidary runtime install --from`",
			request, k.provider, orNone(providers))
	}
	c := Choice{Device: name, Provider: k.provider, Reason: "asked for"}
	switch {
	case k.nvidia:
		return chooseGPU(c, name, n, m.GPUs)
	case hasArg:
		c.Device = name + ":" + arg
	}
	return c, nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// chooseGPU checks that the GPU with an ordinal is there.
func chooseGPU(c Choice, name string, n int, gpus GPUs) (Choice, error) {
	c.Device = name + ":" + strconv.Itoa(n)
	if !gpus.Known {
		c.Warnings = append(c.Warnings, gpus.Reason)
		return c, nil
	}
	if len(gpus.Devices) == 0 {
		return Choice{}, fmt.Errorf("device %s: there is no GPU: %s", c.Device, gpus.Reason)
	}
	visible := gpus.visible()
	for _, g := range visible {
		if g.Ordinal != n {
			continue
		}
		if g.ComputeMode == "prohibited" {
			return Choice{}, fmt.Errorf("device %s: the compute mode of %s is prohibited: set another one by nvidia-smi -c", c.Device, g.Name)
		}
		c.GPU, c.Warnings = &g, warnings(g, gpus)
		return c, nil
	}
	var have []string
	for _, g := range visible {
		have = append(have, fmt.Sprintf("%d (%s)", g.Ordinal, g.Name))
	}
	hidden := ""
	if len(visible) < len(gpus.Devices) {
		hidden = fmt.Sprintf("; CUDA_VISIBLE_DEVICES hides %d", len(gpus.Devices)-len(visible))
	}
	return Choice{}, fmt.Errorf("device %s: there is no such GPU: CUDA sees %s%s", c.Device, orNone(have), hidden)
}

// warnings are what may disturb work on a GPU.
func warnings(g GPU, gpus GPUs) []string {
	var out []string
	if len(g.Others) > 0 {
		out = append(out, fmt.Sprintf("%d other processes use GPU %d: latency will vary", len(g.Others), g.Ordinal))
	}
	if len(g.Slowdown) > 0 {
		out = append(out, fmt.Sprintf("GPU %d runs below its clocks: %s", g.Ordinal, strings.Join(g.Slowdown, ", ")))
	}
	if g.MIG {
		out = append(out, fmt.Sprintf("GPU %d is split into MIG instances: memory and clocks are those of the whole", g.Ordinal))
	}
	for _, o := range gpus.visible() {
		if o.Name != g.Name {
			out = append(out, "GPUs of several models: CUDA numbers the fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID is set, and these numbers are in PCI order")
			break
		}
	}
	return out
}

// chooseAuto is Choose for auto.
func chooseAuto(providers []string, m Machine) Choice {
	cpu := func(format string, args ...any) Choice {
		return Choice{Device: "cpu", Provider: cpuProvider, Reason: "the CPU, since " + fmt.Sprintf(format, args...)}
	}
	cuda := kinds["cuda"].provider
	able := slices.Contains(providers, cuda)
	var usable []GPU
	for _, g := range m.GPUs.visible() {
		if g.ComputeMode != "prohibited" {
			usable = append(usable, g)
		}
	}
	switch {
	case len(m.GPUs.Devices) == 0 && m.GPUs.Reason != "":
		return cpu("%s", m.GPUs.Reason)
	case len(m.GPUs.Devices) == 0:
		return cpu("no GPU was found")
	case len(usable) == 0:
		return cpu("CUDA_VISIBLE_DEVICES or the compute mode keeps this process from all %d GPUs", len(m.GPUs.Devices))
	case !able:
		c := cpu("this ONNX Runtime library has no %s", cuda)
		c.Warnings = []string{fmt.Sprintf("%s is unused: install a CUDA build by `lapidary runtime install --from`", usable[0].Name)}
		return c
	}
	best := slices.MaxFunc(usable, func(a, b GPU) int {
		if len(a.Others) != len(b.Others) {
			return len(b.Others) - len(a.Others)
		}
		switch {
		case a.free() > b.free():
			return 1
		case a.free() < b.free():
			return -1
		}
		return 0
	})
	return Choice{
		Device: "cuda:" + strconv.Itoa(best.Ordinal), Provider: cuda, GPU: &best, Warnings: warnings(best, m.GPUs),
		Reason: fmt.Sprintf("%s, the least busy of %d usable GPUs: %d other processes, %d of %d MiB free",
			best.Name, len(usable), len(best.Others), best.free()>>20, best.MemoryTotal>>20),
	}
}

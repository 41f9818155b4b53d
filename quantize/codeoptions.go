package quantize

import (
	"fmt"
	"slices"
	"strings"
)

// CodeOptions are the codes of static int8 and how the model holds them. The zero
// value is uint8 activations and int8 weights in QDQ form, for ONNX Runtime's CPU
// provider.
type CodeOptions struct {
	// Activations is the type of their codes, of [ActivationTypes]; "" is uint8, or
	// int8 for an accelerator. Codes of 16 bits are for processors with kernels of
	// them; others compute in float32 between conversions.
	Activations string
	Weights     string // type of the codes of weights, int8 or uint8; "" is int8
	// Representation is qdq, pairs of QuantizeLinear and DequantizeLinear around
	// operators in floating point, or qoperator, operators on codes; "" is qdq. The
	// codes are the same.
	Representation string
	// Accelerator is cuda or tensorrt: activations are int8 with zero point 0, pairs
	// stand where TensorRT wants them, and biases have none. "" is the CPU.
	Accelerator string
}

// ActivationTypes returns the types that codes of activations can have.
func ActivationTypes() []string { return []string{"uint8", "int8", "uint16", "int16"} }

// WeightTypes returns the types that codes of weights can have.
func WeightTypes() []string { return []string{"int8", "uint8"} }

// Representations returns the forms of a statically quantized model.
func Representations() []string { return []string{"qdq", "qoperator"} }

// Accelerators returns the targets that are no CPU.
func Accelerators() []string { return []string{"cuda", "tensorrt"} }

// fill sets what is left open.
func (c *CodeOptions) fill() {
	set := func(s *string, to string) {
		if *s == "" {
			*s = to
		}
	}
	if c.Accelerator != "" {
		set(&c.Activations, "int8")
	}
	set(&c.Activations, "uint8")
	set(&c.Weights, "int8")
	set(&c.Representation, "qdq")
}

// Check says what is wrong with the options; nil if nothing is.
func (c CodeOptions) Check() error {
	c.fill()
	for _, x := range []struct {
		what, value string
		known       []string
	}{
		{"codes of activations", c.Activations, ActivationTypes()}, {"codes of weights", c.Weights, WeightTypes()},
		{"representation", c.Representation, Representations()}, {"accelerator", c.Accelerator, append(Accelerators(), "")},
	} {
		if !slices.Contains(x.known, x.value) {
			return fmt.Errorf("%s %q: want %s", x.what, x.value, strings.Join(x.known, ", "))
		}
	}
	switch {
	case c.Accelerator != "" && c.Activations != "int8":
		return fmt.Errorf("%s wants activations in int8, not in %s", c.Accelerator, c.Activations)
	case c.Accelerator != "" && c.Weights != "int8":
		return fmt.Errorf("%s wants weights in int8, not in %s", c.Accelerator, c.Weights)
	case c.Accelerator != "" && c.Representation != "qdq":
		return fmt.Errorf("%s reads pairs of QuantizeLinear and DequantizeLinear, not operators on codes", c.Accelerator)
	case c.Representation == "qoperator" && activationTypes[c.Activations].wide():
		return fmt.Errorf("operators on codes have activations of 8 bits, not %s; use qdq", c.Activations)
	}
	return nil
}

// usual reports whether c is the zero value, filled or not.
func (c CodeOptions) usual() bool {
	c.fill()
	d := CodeOptions{}
	d.fill()
	return c == d
}

// activations returns the codes of activations.
func (c CodeOptions) activations() codeType {
	c.fill()
	if c.Accelerator != "" {
		return around
	}
	return activationTypes[c.Activations]
}

// floatBias reports whether biases stay in floating point.
func (c CodeOptions) floatBias() bool { return c.Accelerator != "" }

// device names where models run.
func (o *Options) device() string {
	if d := o.Verify.Session.Device; d != "" {
		return d
	}
	return "cpu"
}

// suffix tells codes apart in the names of what is timed, "" for the usual ones.
func (c CodeOptions) suffix() string {
	c.fill()
	if c.Activations == "uint8" && c.Weights == "int8" {
		return ""
	}
	return fmt.Sprintf(" %s×%s", c.Activations, c.Weights)
}

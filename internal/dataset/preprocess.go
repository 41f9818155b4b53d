package dataset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/lapidary-ml/lapidary/internal/onnx"
	"github.com/lapidary-ml/lapidary/internal/readfile"
)

// maxPreprocessFile is the size from which a preprocessing file is refused.
const maxPreprocessFile = 1 << 16

// maxSide is the greatest width or height of a resized picture.
const maxSide = 1 << 14

// Preprocess says how a picture becomes a model's input, step by step in the
// order of the fields. The zero value keeps the pixels as they are, 0 to 255.
type Preprocess struct {
	Input         string     // the input it is for; "": the only one, or the only one of rank 4
	Resize        Size       // Height 0: the shorter side becomes Width, the longer in proportion
	Interpolation string     // bilinear (the default), bicubic or nearest
	Crop          Size       // the centre; Height 0: as Width
	Channels      string     // rgb, bgr or gray; "": what the input takes, else as stored
	Scale         float64    // factor of the pixel values; 0 means 1
	Mean          []float64  // subtracted after scaling, one for all or per channel in the order of Channels
	Std           []float64  // divisor after that, one for all or per channel
	Layout        string     // nchw or nhwc; "": what the input's shape suggests, else nchw
	DType         onnx.DType // of the result; Undefined: the input's
}

// Size is a width and a height in pixels.
type Size struct{ Width, Height int }

// String returns "256" or "320x240".
func (s Size) String() string {
	if s.Height == 0 {
		return strconv.Itoa(s.Width)
	}
	return fmt.Sprintf("%dx%d", s.Width, s.Height)
}

// ParsePreprocess reads the inline form, such as
// "resize=256,crop=224,channels=bgr,mean=104:117:123", or the YAML or JSON
// file of that name with the same keys.
func ParsePreprocess(spec string) (*Preprocess, error) {
	pairs := map[string]string{}
	if !strings.Contains(spec, "=") {
		b, err := readfile.All(spec, maxPreprocessFile)
		if err != nil {
			return nil, fmt.Errorf("preprocess: %w; give a file or key=value pairs", err)
		}
		p, err := parsePreprocessYAML(b)
		if err != nil {
			return nil, fmt.Errorf("preprocess %s: %w", spec, err)
		}
		return p, nil
	}
	for _, part := range strings.Split(spec, ",") {
		key, value, ok := strings.Cut(part, "=")
		key = strings.TrimSpace(key)
		if _, twice := pairs[key]; !ok || twice {
			return nil, fmt.Errorf("preprocess: %q: want each key once, as key=value", part)
		}
		pairs[key] = strings.TrimSpace(value)
	}
	p, err := newPreprocess(pairs)
	if err != nil {
		return nil, fmt.Errorf("preprocess: %w", err)
	}
	return p, nil
}

// parsePreprocessYAML reads a mapping of keys to scalars or lists of scalars;
// JSON is a subset of YAML.
func parsePreprocessYAML(b []byte) (*Preprocess, error) {
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, err
	}
	pairs := map[string]string{}
	for key, node := range doc {
		values := []string{node.Value}
		if node.Kind == yaml.SequenceNode {
			values = values[:0]
			for _, n := range node.Content {
				values = append(values, n.Value)
			}
		}
		if node.Kind != yaml.ScalarNode && node.Kind != yaml.SequenceNode ||
			slices.ContainsFunc(values, func(s string) bool { return s == "" || strings.Contains(s, ":") }) {
			return nil, fmt.Errorf("key %q: want a value or a list of values", key)
		}
		pairs[key] = strings.Join(values, ":")
	}
	return newPreprocess(pairs)
}

// preprocessKeys are the keys in canonical order, which is that of the steps.
var preprocessKeys = []struct {
	name string
	set  func(*Preprocess, string) error
	get  func(*Preprocess) string
}{
	{"input", func(p *Preprocess, s string) (err error) { p.Input = s; return nil }, func(p *Preprocess) string { return p.Input }},
	{"resize", func(p *Preprocess, s string) (err error) { p.Resize, err = parseSize(s); return err }, func(p *Preprocess) string { return sizeText(p.Resize) }},
	{"interpolation", func(p *Preprocess, s string) (err error) {
		p.Interpolation, err = oneOf(s, "bilinear", "bicubic", "nearest")
		return err
	}, func(p *Preprocess) string { return unless(p.Interpolation, "bilinear") }},
	{"crop", func(p *Preprocess, s string) (err error) { p.Crop, err = parseSize(s); return err }, func(p *Preprocess) string { return sizeText(p.Crop) }},
	{"channels", func(p *Preprocess, s string) (err error) {
		p.Channels, err = oneOf(s, "rgb", "bgr", "gray")
		return err
	}, func(p *Preprocess) string { return p.Channels }},
	{"scale", func(p *Preprocess, s string) (err error) { p.Scale, err = parseFactor(s); return err }, func(p *Preprocess) string {
		return unless(strconv.FormatFloat(p.factor(), 'g', -1, 64), "1")
	}},
	{"mean", func(p *Preprocess, s string) (err error) { p.Mean, err = parseNumbers(s); return err }, func(p *Preprocess) string { return numbersText(p.Mean) }},
	{"std", func(p *Preprocess, s string) (err error) {
		if p.Std, err = parseNumbers(s); slices.Contains(p.Std, 0) {
			err = errors.New("a divisor is zero")
		}
		return err
	}, func(p *Preprocess) string { return numbersText(p.Std) }},
	{"layout", func(p *Preprocess, s string) (err error) { p.Layout, err = oneOf(s, "nchw", "nhwc"); return err }, func(p *Preprocess) string { return p.Layout }},
	{"dtype", func(p *Preprocess, s string) (err error) { p.DType, err = parseDType(s); return err }, func(p *Preprocess) string {
		if p.DType == onnx.Undefined {
			return ""
		}
		return p.DType.String()
	}},
}

func newPreprocess(pairs map[string]string) (*Preprocess, error) {
	p := &Preprocess{}
	for _, k := range preprocessKeys {
		text, ok := pairs[k.name]
		if !ok {
			continue
		}
		if err := k.set(p, text); err != nil {
			return nil, fmt.Errorf("%s=%s: %w", k.name, text, err)
		}
		delete(pairs, k.name)
	}
	if len(pairs) == 0 {
		return p, nil
	}
	var unknown, names []string
	for key := range pairs {
		unknown = append(unknown, strconv.Quote(key))
	}
	for _, k := range preprocessKeys {
		names = append(names, k.name)
	}
	slices.Sort(unknown)
	return nil, fmt.Errorf("unknown key %s; the keys are %s", strings.Join(unknown, ", "), strings.Join(names, ", "))
}

// String returns the canonical inline form: the keys that are not at their
// default, in the order of the steps. "" means that nothing is done.
func (p *Preprocess) String() string {
	if p == nil {
		return ""
	}
	var parts []string
	for _, k := range preprocessKeys {
		if v := k.get(p); v != "" {
			parts = append(parts, k.name+"="+v)
		}
	}
	return strings.Join(parts, ",")
}

// Digest returns the SHA-256 of the canonical form, in lower-case hexadecimal.
func (p *Preprocess) Digest() string {
	sum := sha256.Sum256([]byte(p.String()))
	return hex.EncodeToString(sum[:])
}

// factor returns the factor of the pixel values.
func (p *Preprocess) factor() float64 {
	if p.Scale == 0 {
		return 1
	}
	return p.Scale
}

// arithmetic reports whether values change.
func (p *Preprocess) arithmetic() bool {
	return p.factor() != 1 || len(p.Mean) > 0 || len(p.Std) > 0
}

func unless(s, def string) string {
	if s == def {
		return ""
	}
	return s
}

func sizeText(s Size) string {
	if s == (Size{}) {
		return ""
	}
	return s.String()
}

func numbersText(v []float64) string {
	parts := make([]string, len(v))
	for i, x := range v {
		parts[i] = strconv.FormatFloat(x, 'g', -1, 64)
	}
	return strings.Join(parts, ":")
}

// parseSize reads N or WxH; a list of two, as a file may have it, is W and H.
func parseSize(s string) (Size, error) {
	w, h, both := strings.Cut(strings.ReplaceAll(s, ":", "x"), "x")
	out := Size{}
	var err error
	if out.Width, err = strconv.Atoi(w); err == nil && both {
		out.Height, err = strconv.Atoi(h)
	}
	if err != nil || out.Width < 1 || out.Width > maxSide || both && (out.Height < 1 || out.Height > maxSide) {
		return Size{}, fmt.Errorf("want N or WIDTHxHEIGHT, from 1 to %d", maxSide)
	}
	return out, nil
}

// parseNumber reads a number or a quotient of two, such as 1/255.
func parseNumber(s string) (float64, error) {
	num, den, quotient := strings.Cut(s, "/")
	x, err := strconv.ParseFloat(strings.TrimSpace(num), 64)
	if err == nil && quotient {
		var y float64
		y, err = strconv.ParseFloat(strings.TrimSpace(den), 64)
		x /= y
	}
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, errors.New("want a finite number, or a quotient such as 1/255")
	}
	return x, nil
}

func parseFactor(s string) (float64, error) {
	x, err := parseNumber(s)
	if err == nil && x == 0 {
		err = errors.New("the factor is zero")
	}
	return x, err
}

func parseNumbers(s string) ([]float64, error) {
	var out []float64
	for _, part := range strings.Split(s, ":") {
		x, err := parseNumber(part)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, nil
}

func parseDType(s string) (onnx.DType, error) {
	d, ok := onnx.ParseDType(s)
	if !ok || !d.IsFloat() && !d.IsInt() || d.Bits() < 8 {
		return onnx.Undefined, errors.New("want a number type of ONNX of at least 8 bits, such as float, float16 or uint8")
	}
	return d, nil
}

func oneOf(s string, words ...string) (string, error) {
	if !slices.Contains(words, s) {
		return "", fmt.Errorf("want one of %s", strings.Join(words, ", "))
	}
	return s, nil
}

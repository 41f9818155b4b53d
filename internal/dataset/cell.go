package dataset

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// tensor reads a cell as a value of input p: a number, numbers separated by
// spaces, a JSON array (nested for more axes), or text for a string input. The
// shape is that of the array; [] for a single value.
func (c cell) tensor(p Port) (*onnx.Tensor, error) {
	text := strings.TrimSpace(c.text)
	if p.elem() == onnx.String && (c.quoted || !strings.HasPrefix(text, "[")) {
		return onnx.FromStrings(p.Name, []int64{}, []string{c.text}), nil
	}
	if strings.HasPrefix(text, "[") && !c.quoted {
		leaves, shape, err := jsonArray(text)
		if err != nil {
			return nil, err
		}
		if p.elem() == onnx.String {
			return onnx.FromStrings(p.Name, shape, leaves), nil
		}
		return numbers(leaves, shape, p)
	}
	fields := strings.Fields(text)
	switch len(fields) {
	case 0:
		return nil, errors.New("the value is missing")
	case 1:
		return numbers(fields, []int64{}, p)
	}
	return numbers(fields, []int64{int64(len(fields))}, p)
}

// words reads a cell as a list: separated by |, or a JSON array.
func (c cell) words() ([]string, error) {
	if strings.HasPrefix(c.text, "[") && !c.quoted {
		v, _, err := jsonArray(c.text)
		return v, err
	}
	var out []string
	for _, w := range strings.Split(c.text, "|") {
		if w = strings.TrimSpace(w); w != "" {
			out = append(out, w)
		}
	}
	return out, nil
}

// jsonArray flattens a rectangular array into the texts of its elements.
func jsonArray(text string) (leaves []string, shape []int64, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, nil, fmt.Errorf("not a JSON array: %v", err)
	}
	if d.More() {
		return nil, nil, errors.New("text after the JSON array")
	}
	for at := v; ; {
		list, ok := at.([]any)
		if !ok {
			break
		}
		if shape = append(shape, int64(len(list))); len(list) == 0 {
			break
		}
		at = list[0]
	}
	leaves, err = flatten(nil, v, shape)
	return leaves, shape, err
}

func flatten(out []string, v any, shape []int64) ([]string, error) {
	list, ok := v.([]any)
	if !ok && len(shape) == 0 {
		switch v := v.(type) {
		case json.Number:
			return append(out, v.String()), nil
		case string:
			return append(out, v), nil
		case bool:
			return append(out, strconv.FormatBool(v)), nil
		}
		return nil, errors.New("an array element is not a number, text or boolean")
	}
	if !ok || len(shape) == 0 || int64(len(list)) != shape[0] {
		return nil, errors.New("the array is ragged: all rows of an axis need the same length")
	}
	var err error
	for _, e := range list {
		if out, err = flatten(out, e, shape[1:]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// numbers parses texts as elements of input p. Where its type is unknown they
// become int64 if all are integers, else float.
func numbers(texts []string, shape []int64, p Port) (*onnx.Tensor, error) {
	d := p.elem()
	if d == onnx.Undefined {
		if t, err := integers(texts, shape, p.Name); err == nil {
			return t, nil
		}
		d = onnx.Float
	}
	if d.IsFloat() {
		return floats(texts, shape, p.Name, d)
	}
	t, err := integers(texts, shape, p.Name)
	if err != nil {
		return nil, err
	}
	return convert(t, d)
}

func floats(texts []string, shape []int64, name string, d onnx.DType) (*onnx.Tensor, error) {
	v := make([]float64, len(texts))
	bits := 64
	if d == onnx.Float {
		bits = 32 // rounded once
	}
	for i, s := range texts {
		x, err := strconv.ParseFloat(s, bits)
		if err != nil {
			if b, berr := strconv.ParseBool(s); berr == nil && len(s) > 1 {
				if b {
					v[i] = 1
				}
				continue
			}
			return nil, fmt.Errorf("%.40q is not a number within the range of %v", s, d)
		}
		v[i] = x
	}
	if bits == 32 {
		return onnx.FromFloat64s(name, d, shape, v)
	}
	t, err := onnx.FromFloat64s(name, onnx.Double, shape, v)
	if err != nil {
		return nil, err
	}
	return convert(t, d)
}

func integers(texts []string, shape []int64, name string) (*onnx.Tensor, error) {
	b := make([]byte, 0, 8*len(texts))
	for _, s := range texts {
		x, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			truth, berr := strconv.ParseBool(s)
			if berr != nil || len(s) == 1 {
				return nil, fmt.Errorf("%.40q is not an integer", s)
			}
			if truth {
				x = 1
			}
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(x))
	}
	return onnx.NewTensor(name, onnx.Int64, shape, b)
}

package main

import (
	"encoding/binary"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// What follows encodes models that the writer of this project refuses to write.

func pbBytes(num protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), v)
}

func pbInt(num protowire.Number, v int64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, num, protowire.VarintType), uint64(v))
}

func pbJoin(parts ...[]byte) (out []byte) {
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

func pbModel(graph []byte, functions ...[]byte) []byte {
	out := pbJoin(pbInt(1, 8), pbBytes(8, pbInt(2, 17)), pbBytes(8, pbJoin(pbBytes(1, []byte("l")), pbInt(2, 1))), pbBytes(7, graph))
	for _, f := range functions {
		out = append(out, pbBytes(25, f)...)
	}
	return out
}

func pbGraph(nodes, inits, inputs, outputs [][]byte) []byte {
	out := pbBytes(2, []byte("g"))
	for num, list := range map[protowire.Number][][]byte{1: nodes, 5: inits, 11: inputs, 12: outputs} {
		for _, x := range list {
			out = append(out, pbBytes(num, x)...)
		}
	}
	return out
}

func pbNode(op string, in, out []string, attrs ...[]byte) []byte {
	n := pbBytes(4, []byte(op))
	for _, s := range in {
		n = append(n, pbBytes(1, []byte(s))...)
	}
	for _, s := range out {
		n = append(n, pbBytes(2, []byte(s))...)
	}
	for _, a := range attrs {
		n = append(n, pbBytes(5, a)...)
	}
	return n
}

// pbCall is a node that calls a local function.
func pbCall(f, in, out string) []byte {
	return append(pbNode(f, []string{in}, []string{out}), pbBytes(7, []byte("l"))...)
}

func pbFunction(name string, nodes ...[]byte) []byte {
	out := pbJoin(pbBytes(1, []byte(name)), pbBytes(4, []byte("a")), pbBytes(5, []byte("b")), pbBytes(9, pbInt(2, 17)),
		pbBytes(9, pbJoin(pbBytes(1, []byte("l")), pbInt(2, 1))), pbBytes(10, []byte("l")))
	for _, n := range nodes {
		out = append(out, pbBytes(7, n)...)
	}
	return out
}

func pbValue(name string, dtype int64, dims ...int64) []byte {
	var shape []byte
	for _, d := range dims {
		shape = append(shape, pbBytes(1, pbInt(1, d))...)
	}
	return pbJoin(pbBytes(1, []byte(name)), pbBytes(2, pbBytes(1, pbJoin(pbInt(1, dtype), pbBytes(2, shape)))))
}

func pbTensor(name string, dtype int64, raw []byte, dims ...int64) []byte {
	var out []byte
	for _, d := range dims {
		out = append(out, pbInt(1, d)...)
	}
	return pbJoin(out, pbInt(2, dtype), pbBytes(8, []byte(name)), pbBytes(9, raw))
}

// pbExternal is a tensor of n floats whose bytes lie in a file.
func pbExternal(name, location string, n int64) []byte {
	out := pbJoin(pbInt(1, n), pbInt(2, 1), pbBytes(8, []byte(name)), pbInt(14, 1))
	for _, e := range [][2]string{{"location", location}, {"offset", "0"}, {"length", fmt.Sprint(4 * n)}} {
		out = append(out, pbBytes(13, pbJoin(pbBytes(1, []byte(e[0])), pbBytes(2, []byte(e[1]))))...)
	}
	return out
}

func pbSub(name string, g []byte) []byte {
	return pbJoin(pbBytes(1, []byte(name)), pbBytes(6, g), pbInt(20, 5))
}

// withWeight is a model that adds the initializer w to its input.
func withWeight(w []byte) []byte {
	return pbModel(pbGraph([][]byte{pbNode("Add", []string{"x", "w"}, []string{"y"})}, [][]byte{w}, [][]byte{pbValue("x", 1, 4)}, [][]byte{pbValue("y", 1, 4)}))
}

// nested is a graph of If nodes, each in a branch of the one around it.
func nested(depth int) []byte {
	g := pbGraph([][]byte{pbNode("Identity", []string{"x"}, []string{"q0"})}, nil, nil, [][]byte{pbBytes(1, []byte("q0"))})
	for i := 1; i < depth; i++ {
		e, q := fmt.Sprintf("e%d", i), fmt.Sprintf("q%d", i)
		other := pbGraph([][]byte{pbNode("Identity", []string{"x"}, []string{e})}, nil, nil, [][]byte{pbBytes(1, []byte(e))})
		g = pbGraph([][]byte{pbNode("If", []string{"c"}, []string{q}, pbSub("then_branch", g), pbSub("else_branch", other))}, nil, nil, [][]byte{pbBytes(1, []byte(q))})
	}
	return pbModel(append(g, pbJoin(pbBytes(11, pbValue("x", 1, 1)), pbBytes(11, pbValue("c", 9)))...))
}

// repeated is a model of a part n times, and one node.
func repeated(n int, part func(i int) []byte) []byte {
	g := pbGraph([][]byte{pbNode("Relu", []string{"x"}, []string{"y"})}, nil, [][]byte{pbValue("x", 1, 1)}, [][]byte{pbValue("y", 1, 1)})
	for i := range n {
		g = append(g, part(i)...)
	}
	return pbModel(g)
}

func int64s(v ...int64) (out []byte) {
	for _, x := range v {
		out = binary.LittleEndian.AppendUint64(out, uint64(x))
	}
	return out
}

// modelBombs are models that take more than they look like, or cannot be. What
// opens is true where the file by itself is one that can be read.
func modelBombs() []modelBomb {
	float := []byte{0, 0, 0x80, 0x3f}
	doubling := [][]byte{pbFunction("f0", pbNode("Relu", []string{"a"}, []string{"b"}))}
	for i := 1; i < 40; i++ {
		below := fmt.Sprintf("f%d", i-1)
		doubling = append(doubling, pbFunction(fmt.Sprintf("f%d", i), pbCall(below, "a", "m"), pbCall(below, "m", "b")))
	}
	many := make([][]byte, 20_000)
	for i := range many {
		many[i] = pbFunction(fmt.Sprintf("f%d", i), pbNode("Relu", []string{"a"}, []string{"b"}))
	}
	calls := func(f string) []byte {
		return pbGraph([][]byte{pbCall(f, "x", "y")}, nil, [][]byte{pbValue("x", 1, 1)}, [][]byte{pbValue("y", 1, 1)})
	}
	huge := strings.Repeat("y", 20<<20)
	constant := func(op string, in []string, inits ...[]byte) []byte {
		return pbModel(pbGraph([][]byte{pbNode(op, in, []string{"y"})}, inits, nil, [][]byte{pbValue("y", 1)}))
	}
	return []modelBomb{
		{"overflow", withWeight(pbTensor("w", 1, float, 1<<32, 1<<32, 4)), true},
		{"elements", withWeight(pbTensor("w", 1, float, 1<<62)), true},
		{"negative", withWeight(pbTensor("w", 1, float, -5)), true},
		{"constantofshape", constant("ConstantOfShape", []string{"s"}, pbTensor("s", 7, int64s(1<<31, 1<<31), 2)), true},
		{"expand", constant("Expand", []string{"c", "s"}, pbTensor("c", 1, float), pbTensor("s", 7, int64s(1<<36), 1)), true},
		{"input", pbModel(pbGraph([][]byte{pbNode("Relu", []string{"x"}, []string{"y"})}, nil, [][]byte{pbValue("x", 1, 1<<40, 1<<20)}, [][]byte{pbValue("y", 1, 1<<40, 1<<20)})), true},
		{"deep", nested(10_000), false},
		{"recursive", pbModel(calls("f"), pbFunction("f", pbCall("f", "a", "b"))), true},
		{"mutual", pbModel(calls("f"), pbFunction("f", pbCall("g", "a", "b")), pbFunction("g", pbCall("f", "a", "b"))), true},
		{"doubling", pbModel(calls("f39"), doubling...), false},
		{"functions", pbModel(calls("f19999"), many...), true},
		{"nodes", repeated(1_000_000, func(int) []byte { return pbBytes(1, pbNode("Relu", []string{"x"}, nil)) }), false},
		{"initializers", repeated(600_000, func(i int) []byte { return pbBytes(5, pbTensor(fmt.Sprint(i), 1, float, 1)) }), false},
		{"attributes", pbModel(pbGraph([][]byte{pbNode("Relu", []string{"x"}, []string{"y"}, make([][]byte, 3_000_000)...)}, nil, [][]byte{pbValue("x", 1, 1)}, [][]byte{pbValue("y", 1, 1)})), false},
		{"dimensions", withWeight(pbTensor("w", 1, float, make([]int64, 3_000_000)...)), false},
		{"name", pbModel(pbGraph([][]byte{pbNode("Relu", []string{"x"}, []string{huge})}, nil, [][]byte{pbValue("x", 1, 1)}, [][]byte{pbValue(huge, 1, 1)})), false},
		{"cycle", pbModel(pbGraph([][]byte{pbNode("Add", []string{"x", "z"}, []string{"y"}), pbNode("Relu", []string{"y"}, []string{"z"})}, nil, [][]byte{pbValue("x", 1, 1)}, [][]byte{pbValue("y", 1, 1)})), true},
		{"itself", withWeight(pbExternal("w", "itself.onnx", 4)), true},
		{"elsewhere", withWeight(pbExternal("w", "../secret", 4)), false},
		{"device", withWeight(pbExternal("w", "/dev/zero", 4)), false},
		{"short", withWeight(pbExternal("w", "small.onnx", 1<<40)), false},
		{"empty", nil, false},
		{"groups", []byte(strings.Repeat("\x0b", 1<<20)), false},
	}
}

type modelBomb struct {
	name  string
	data  []byte
	opens bool
}

// longToLoad is a model with a branch that no input takes, in which an engine has an endless computation on constants to do
// when it loads the model: each of 2²³ means is of 2²³ numbers.
func longToLoad() []byte {
	kernel := pbJoin(pbBytes(1, []byte("kernel_shape")), pbInt(8, 1<<23), pbInt(20, 7))
	return neverTaken(int64s(1, 1, 1<<24), pbNode("AveragePool", []string{"zeros"}, []string{"many"}, kernel))
}

// largeToLoad is such a model in which the constants are 2²⁸ floats.
func largeToLoad() []byte {
	return neverTaken(int64s(1<<28), pbNode("Identity", []string{"zeros"}, []string{"many"}))
}

// neverTaken is a model with a weight and a branch that no input takes, with a node on constants of a shape.
func neverTaken(shape []byte, node []byte) []byte {
	taken := pbGraph([][]byte{pbNode("Identity", []string{"m"}, []string{"same"})}, nil, nil, [][]byte{pbValue("same", 1, 1, 2)})
	never := pbGraph([][]byte{
		pbNode("ConstantOfShape", []string{"s"}, []string{"zeros"}), node,
		pbNode("ReduceMax", []string{"many"}, []string{"most"}),
		pbNode("Add", []string{"m", "most"}, []string{"sum"}),
	}, nil, nil, [][]byte{pbBytes(1, []byte("sum"))})
	weight := pbTensor("w", 1, []byte{0, 0, 0x80, 0x3f, 0, 0, 0, 0x40, 0, 0, 0x40, 0x40, 0, 0, 0x80, 0x40}, 2, 2)
	return pbModel(pbGraph([][]byte{
		pbNode("MatMul", []string{"x", "w"}, []string{"m"}),
		pbNode("Abs", []string{"m"}, []string{"a"}),
		pbNode("ReduceMax", []string{"a"}, []string{"top"}),
		pbNode("Less", []string{"top", "below"}, []string{"c"}),
		pbNode("Reshape", []string{"c", "one"}, []string{"c1"}),
		pbNode("If", []string{"c1"}, []string{"y"}, pbSub("then_branch", never), pbSub("else_branch", taken)),
	}, [][]byte{weight, pbTensor("s", 7, shape, int64(len(shape)/8)), pbTensor("below", 1, []byte{0, 0, 0x80, 0xbf}), pbTensor("one", 7, int64s(1), 1)},
		[][]byte{pbValue("x", 1, 1, 2)}, [][]byte{pbValue("y", 1)}))
}

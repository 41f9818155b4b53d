package onnx

// constant returns the tensor that a Constant node produces, nil if it is
// sparse, refers to a function's attribute, or is malformed.
func (n *Node) constant() *Tensor {
	if len(n.Attrs) != 1 || n.Attrs[0].Ref != "" {
		return nil
	}
	a := n.Attrs[0]
	switch {
	case a.Name == "value" && a.Type == AttrTensor:
		return a.T
	case a.Name == "value_float" && a.Type == AttrFloat:
		return FromFloats(a.Name, []int64{}, []float32{a.F})
	case a.Name == "value_floats" && a.Type == AttrFloats:
		return FromFloats(a.Name, []int64{int64(len(a.Floats))}, a.Floats)
	case a.Name == "value_int" && a.Type == AttrInt:
		return FromInts(a.Name, []int64{}, []int64{a.I})
	case a.Name == "value_ints" && a.Type == AttrInts:
		return FromInts(a.Name, []int64{int64(len(a.Ints))}, a.Ints)
	case a.Name == "value_string" && a.Type == AttrString:
		return &Tensor{Name: a.Name, DType: String, Shape: []int64{}, Str: [][]byte{a.S}}
	case a.Name == "value_strings" && a.Type == AttrStrings:
		return &Tensor{Name: a.Name, DType: String, Shape: []int64{int64(len(a.Strings))}, Str: a.Strings}
	}
	return nil
}

// InFunction reports whether g is a function's body or lies within one, where
// constants must be Constant nodes since there are no initializers.
func (g *Graph) InFunction() bool {
	root := g.root()
	return root.model != nil && root.model.Graph != root
}

// Function returns the local function whose body g is or lies within, nil if none.
func (g *Graph) Function() *Function {
	root := g.root()
	if root.model == nil || root.model.Graph == root {
		return nil
	}
	if f := root.function; f != nil && f.Body == root {
		return f
	}
	for _, f := range root.model.Functions {
		if f.Body == root {
			return f
		}
	}
	return nil
}

// root returns the outermost graph around g.
func (g *Graph) root() *Graph {
	for g.owner != nil && g.owner.graph != nil {
		g = g.owner.graph
	}
	return g
}

// OpsetVersion returns the version of an operator domain in force where n
// stands: that of the function whose body it is in, else the model's; 0 if the
// domain is not imported.
func (n *Node) OpsetVersion(domain string) int64 {
	g := n.graph
	if g == nil || g.model == nil {
		return 0
	}
	if f := g.Function(); f != nil && len(f.Opsets) > 0 {
		return f.OpsetVersion(domain)
	}
	return g.model.OpsetVersion(domain)
}

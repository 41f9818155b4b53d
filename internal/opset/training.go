package opset

// trainingRows are the optimizers of ai.onnx.preview.training; Gradient stays
// without an inference, its outputs follow a graph outside the node.
func trainingRows() []row {
	const adam = "alpha:float=0.9 beta:float=0.999 epsilon:float=1e-06 norm_coefficient:float=0 norm_coefficient_post:float=0"
	return []row{
		{"Adagrad", "1", "R T inputs+", "outputs+", "decay_factor:float=0 epsilon:float=1e-06 norm_coefficient:float=0", 0, optimizer(3, 0, 2), nil},
		{"Adam", "1", "R T inputs+", "outputs+", adam, 0, optimizer(4, 0, 2, 3), nil},
		{"Momentum", "1", "R T inputs+", "outputs+", "alpha:float! beta:float! mode:string! norm_coefficient:float!", 0, optimizer(3, 0, 2), nil},
		{"Gradient", "1", "Inputs+", "Outputs+", "xs:strings! y:string! zs:strings", 0, nil, nil},
	}
}

// optimizer returns the inference of an update of n groups of k tensors each,
// of which those listed in out are produced anew: inputs are R, T, then all
// first members of the groups, all second members, and so on.
func optimizer(k int, out ...int) func(*call) {
	return func(c *call) {
		n := (len(c.n.Inputs()) - 2) / k
		for j, member := range out {
			for i := range n {
				c.setType(j*n+i, c.typ(2+member*n+i))
			}
		}
	}
}

package opset

import (
	"slices"

	"github.com/lapidary-ml/lapidary/internal/onnx"
)

// mlRows are the operators of ai.onnx.ml.
func mlRows() []row {
	const labels = "classlabels_ints:ints classlabels_strings:strings "
	const svm = "kernel_params:floats kernel_type:string=LINEAR "
	const nodes = "nodes_falsenodeids:ints nodes_featureids:ints nodes_hitrates:floats nodes_missing_value_tracks_true:ints " +
		"nodes_modes:strings nodes_nodeids:ints nodes_treeids:ints nodes_truenodeids:ints nodes_values:floats " +
		"base_values_as_tensor:tensor@3 nodes_hitrates_as_tensor:tensor@3 nodes_values_as_tensor:tensor@3 "
	return []row{
		{"ArrayFeatureExtractor", "1", "X Y", "Z", "", 0, inferFeatureExtractor, nil},
		{"Binarizer", "1", "X", "Y", "threshold:float=0", Elementwise, sameAsFirst, perOutput(1)},
		{"CastMap", "1", "X", "Y", "cast_to:string=TO_FLOAT map_form:string=DENSE max_map:int=1", 0, inferCastMap, nil},
		{"CategoryMapper", "1", "X", "Y", "cats_int64s:ints cats_strings:strings default_int64:int=-1 default_string:string=_Unused",
			Elementwise, inferCategoryMapper, nil},
		{"DictVectorizer", "1", "X", "Y", "int64_vocabulary:ints string_vocabulary:strings", 0, inferDictVectorizer, nil},
		{"FeatureVectorizer", "1", "X+", "Y", "inputdimensions:ints", 0, inferFeatureVectorizer, nil},
		{"Imputer", "1", "X", "Y", "imputed_value_floats:floats imputed_value_int64s:ints replaced_value_float:float=0 replaced_value_int64:int=0",
			0, sameAsFirst, nil},
		{"LabelEncoder", "1 2 4", "X", "Y", "classes_strings:strings@..1 default_int64:int=-1 default_string:string=_Unused default_float:float=-0@2 " +
			"keys_floats:floats@2 keys_int64s:ints@2 keys_strings:strings@2 values_floats:floats@2 values_int64s:ints@2 values_strings:strings@2 " +
			"default_tensor:tensor@4 keys_tensor:tensor@4 values_tensor:tensor@4", Elementwise, inferLabelEncoder, nil},
		{"LinearClassifier", "1", "X", "Y Z", labels + "coefficients:floats! intercepts:floats multi_class:int=0 post_transform:string=NONE",
			0, inferClassifier, costLinear},
		{"LinearRegressor", "1", "X", "Y", "coefficients:floats intercepts:floats post_transform:string=NONE targets:int=1", 0, regressor("targets"), costLinear},
		{"Normalizer", "1", "X", "Y", "norm:string=MAX", 0, toFloat, perOutput(2)},
		{"OneHotEncoder", "1", "X", "Y", "cats_int64s:ints cats_strings:strings zeros:int=1", 0, inferOneHotEncoder, nil},
		{"SVMClassifier", "1", "X", "Y Z", labels + "coefficients:floats " + svm +
			"post_transform:string=NONE prob_a:floats prob_b:floats rho:floats support_vectors:floats vectors_per_class:ints", 0, inferClassifier, nil},
		{"SVMRegressor", "1", "X", "Y", "coefficients:floats " + svm +
			"n_supports:int=0 one_class:int=0 post_transform:string=NONE rho:floats support_vectors:floats", 0, regressor(""), nil},
		{"Scaler", "1", "X", "Y", "offset:floats scale:floats", 0, toFloat, perOutput(2)},
		{"TreeEnsemble", "5", "X", "Y", "aggregate_function:int=1 leaf_targetids:ints! leaf_weights:tensor! membership_values:tensor n_targets:int " +
			"nodes_falseleafs:ints! nodes_falsenodeids:ints! nodes_featureids:ints! nodes_hitrates:tensor nodes_missing_value_tracks_true:ints " +
			"nodes_modes:tensor! nodes_splits:tensor! nodes_trueleafs:ints! nodes_truenodeids:ints! post_transform:int=0 tree_roots:ints!", 0, inferTreeEnsemble, nil},
		{"TreeEnsembleClassifier", "1 3 5!", "X", "Y Z", nodes + "base_values:floats class_ids:ints class_nodeids:ints class_treeids:ints class_weights:floats " +
			"classlabels_int64s:ints classlabels_strings:strings post_transform:string=NONE class_weights_as_tensor:tensor@3", 0, inferClassifier, nil},
		{"TreeEnsembleRegressor", "1 3 5!", "X", "Y", nodes + "aggregate_function:string=SUM base_values:floats n_targets:int post_transform:string=NONE " +
			"target_ids:ints target_nodeids:ints target_treeids:ints target_weights:floats target_weights_as_tensor:tensor@3", 0, regressor("n_targets"), nil},
		{"ZipMap", "1", "X", "Z", "classlabels_int64s:ints classlabels_strings:strings", 0, inferZipMap, nil},
	}
}

// samples returns how many samples input 0 has: a 1-D input is one sample.
func (c *call) samples() onnx.Dim {
	switch s := c.shape(0); len(s) {
	case 0:
		return onnx.Symbol("")
	case 1:
		return onnx.Fixed(1)
	default:
		return s[0]
	}
}

// listLen returns the number of elements of a list attribute, 0 where it is absent.
func (c *call) listLen(name string) int {
	if a := c.attr(name); a != nil {
		return len(a.Ints) + len(a.Floats) + len(a.Strings)
	}
	return 0
}

func toFloat(c *call) { c.set(0, onnx.Float, c.shape(0)) }

func inferFeatureExtractor(c *call) {
	s, idx := c.shape(0), c.shape(1)
	if s == nil || idx == nil || len(s) == 0 {
		c.set(0, c.elem(0), nil)
		return
	}
	lead := s[:len(s)-1]
	if len(s) == 1 {
		lead = onnx.ShapeOf(1)
	}
	c.set(0, c.elem(0), concatShape(lead, onnx.Shape{c.asDim(c.product(idx))}))
}

func inferCastMap(c *call) {
	elem := map[string]onnx.DType{"TO_FLOAT": onnx.Float, "TO_STRING": onnx.String, "TO_INT64": onnx.Int64}[c.str("cast_to")]
	c.set(0, elem, unknownShape(2))
}

func inferCategoryMapper(c *call) {
	elem := onnx.Undefined
	switch c.elem(0) {
	case onnx.String:
		elem = onnx.Int64
	case onnx.Int64:
		elem = onnx.String
	}
	c.set(0, elem, c.shape(0))
}

func inferDictVectorizer(c *call) {
	elem := onnx.Undefined
	if t := c.typ(0); t != nil && t.Kind == onnx.KindMap && t.Of.IsTensor() {
		elem = t.Of.Elem
	}
	c.set(0, elem, onnx.ShapeOf(1, int64(c.listLen("int64_vocabulary")+c.listLen("string_vocabulary"))))
}

func inferFeatureVectorizer(c *call) {
	width := constant(0)
	for _, n := range c.intList("inputdimensions") {
		width = add(width, constant(n))
	}
	if len(c.intList("inputdimensions")) == 0 {
		width = nil
	}
	c.set(0, onnx.Float, onnx.Shape{c.samples(), c.asDim(width)})
}

func inferLabelEncoder(c *call) {
	elem := onnx.Undefined
	switch t := c.attr("values_tensor"); {
	case c.ver() < 2:
		inferCategoryMapper(c)
		return
	case t != nil && t.T != nil:
		elem = t.T.DType
	case c.listLen("values_strings") > 0:
		elem = onnx.String
	case c.listLen("values_int64s") > 0:
		elem = onnx.Int64
	case c.listLen("values_floats") > 0:
		elem = onnx.Float
	}
	c.set(0, elem, c.shape(0))
}

// inferClassifier gives a label per sample and a score per class; how many
// scores a classifier of two classes gives depends on the runtime where it has
// one set of weights, and is left unknown there.
func inferClassifier(c *call) {
	elem, n := onnx.Int64, c.listLen("classlabels_ints")+c.listLen("classlabels_int64s")
	if k := c.listLen("classlabels_strings"); k > 0 {
		elem, n = onnx.String, k
	}
	scores := onnx.Symbol("")
	if n > 2 && c.op.Name != "SVMClassifier" {
		scores = onnx.Fixed(int64(n))
	}
	c.set(0, elem, onnx.Shape{c.samples()})
	c.set(1, onnx.Float, onnx.Shape{c.samples(), scores})
}

// regressor gives as many numbers per sample as an attribute says, 1 without it.
func regressor(attr string) func(*call) {
	return func(c *call) {
		n, ok := int64(1), true
		if attr != "" {
			if n, ok = c.maybeInt(attr); !ok {
				n = -1
			}
		}
		c.set(0, onnx.Float, onnx.Shape{c.samples(), c.asDim(constant(n))})
	}
}

func inferTreeEnsemble(c *call) {
	n, ok := c.maybeInt("n_targets")
	if !ok {
		n = -1
	}
	c.set(0, c.elem(0), onnx.Shape{c.samples(), c.asDim(constant(n))})
}

func inferOneHotEncoder(c *call) {
	n := int64(max(c.listLen("cats_int64s"), c.listLen("cats_strings")))
	c.set(0, onnx.Float, concatShape(slices.Clone(c.shape(0)), onnx.ShapeOf(n)))
}

func inferZipMap(c *call) {
	key := onnx.Int64
	if c.listLen("classlabels_strings") > 0 {
		key = onnx.String
	}
	c.setType(0, sequenceOf(&onnx.Type{Kind: onnx.KindMap, Key: key, Of: onnx.TensorType(onnx.Float, onnx.Shape{})}))
}

func costLinear(c *costing) {
	c.cost.MACs = c.times(c.count(onnx.Shape{c.samples()}), constant(int64(c.listLen("coefficients"))))
}

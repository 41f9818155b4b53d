// Package onnxtext writes models as text and reads them back.
//
// The syntax is ONNX's own textual syntax, as onnx.parser reads it:
//
//	<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
//	main (float[N,3] x, float s) => (float[N,3] y)
//	<float[3] w = {1, 2, 3}, float[N,3] t> {
//	  [first] t = Mul (x, w)
//	  y = com.microsoft.Op <alpha = 1.0, body = g (a) => (b) { b = Relu (a) }> (t, , s)
//	}
//	<domain: "local", opset_import: ["" : 17]>
//	fn <need, slope: float = 0.5> (x) => (y) {
//	  y = LeakyRelu <alpha: float = @slope> (x)
//	}
//
// "float" is a scalar, "float[]" a tensor of unknown rank; "?" is an unknown
// dimension; nothing or "" between commas an omitted input or output; # starts a comment.
//
// # Extensions
//
// What that syntax cannot say is added so that [Parse] gives back all that
// [Format] was given:
//
//   - Any name may be quoted: "conv1.weight". An operator whose domain or name is
//     not made of identifiers is written "my-domain"."Op 1".
//   - Strings escape \n, \r, \t and \xHH beside \" and \\, so that they hold any bytes.
//   - A float in a tensor may be inf, -inf, nan, or its bits as 0x7fc00001, which
//     tells one NaN from another. Elements of complex tensors are written as
//     real and imaginary part, one after the other. All element types are read,
//     also those of fewer than 8 bits.
//   - A dimension's denotation follows it as a string: [N "DATA_BATCH", 3].
//   - opaque("bytes") is an opaque type, notype one that says nothing, undefined
//     and dtype(99) are element types, "?" an absent type inside seq and the like.
//   - sparse_tensor[5,5] (float[2] s {1, 2}, int64[2] {0, 24}) is a sparse
//     constant of values and indices.
//   - A tensor in an attribute may have a name: float[1] t {1}.
//   - An attribute that has a type and no value leaves "=" out: body: graph.
//   - @{…} behind an item holds what else it carries: doc_string,
//     metadata_props, denotation (types), devices (nodes), quantization
//     (graphs), external (tensors), and unknown: encoded fields that package
//     onnx does not know. The model's header takes training_info,
//     configuration and unknown too.
package onnxtext

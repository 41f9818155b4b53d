// Package quantize stores and computes an ONNX model in fewer bits.
//
// [File] takes a model file to a model file by one scheme:
//
//   - static int8 in QDQ form: activations uint8 with one scale per tensor,
//     measured on calibration data; weights int8, symmetric, one scale per
//     output channel; biases int32. QuantizeLinear/DequantizeLinear pairs stand
//     only where ONNX Runtime's CPU kernels absorb them, or where TensorRT does.
//     [CodeOptions] have other types of codes, and operators on codes in the
//     place of pairs.
//   - dynamic int8: the same weights for matrix products, with the ranges of
//     activations measured while the model runs.
//   - weights only, in blocks of 4 or 8 bits with a scale each; all that is
//     computed stays in floating point. Codes are the nearest, or chosen by GPTQ,
//     AWQ or HQQ where held-out data says that they are better.
//   - float16 and bfloat16, with float32 inputs and outputs, and float32 islands
//     where operators, constants, measured ranges, the engine, or a run under
//     emulated rounding ask for them.
//
// Every quantized node is one rewrite of its own, so that verification can find
// and take back a single one. Scales and codes follow onnxruntime.quantization's
// formulas to the last bit: ranges include zero, codes round half to even after
// a division, a scale below the least normal number is 1.
package quantize

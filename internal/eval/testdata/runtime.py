"""Writes runtime.zip: single-node models with what ONNX Runtime computes, its
optimizations off. Run with onnx and onnxruntime installed: python runtime.py"""

import io
import zipfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

MS = "com.microsoft"
rng = np.random.default_rng(7)


def r(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def i64(*v):
    return np.array(v, np.int64)


CASES = []


def case(name, op, inputs, outputs=1, domain="", opset=17, **attrs):
    """inputs: arrays, None where omitted; outputs: a number or names, "" where omitted."""
    CASES.append((name, op, inputs, outputs, domain, opset, attrs))


def conv_cases():
    case("conv_group_dilated", "Conv", [r(2, 4, 7, 8), r(6, 2, 3, 2), r(6)], group=2, dilations=[1, 2], pads=[1, 0, 2, 1], strides=[2, 1])
    case("conv_1d_same_lower", "Conv", [r(1, 3, 10), r(4, 3, 4)], auto_pad="SAME_LOWER", strides=[3])
    case("conv_2d_same_upper", "Conv", [r(1, 3, 10, 9), r(4, 3, 4, 3)], auto_pad="SAME_UPPER", strides=[3, 2])
    case("conv_valid", "Conv", [r(1, 3, 10, 9), r(4, 3, 4, 3)], auto_pad="VALID", strides=[3, 2])
    case("conv_3d", "Conv", [r(1, 2, 5, 6, 4), r(4, 1, 2, 3, 2), r(4)], group=2, pads=[1, 1, 0, 0, 1, 1])
    case("conv_opset7", "Conv", [r(1, 3, 6, 6), r(4, 3, 3, 3), r(4)], opset=7, kernel_shape=[3, 3])
    case("convtranspose_group", "ConvTranspose", [r(2, 4, 5, 4), r(4, 3, 3, 2), r(6)], group=2, strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 2], dilations=[2, 1])
    case("convtranspose_1d", "ConvTranspose", [r(1, 2, 5), r(2, 3, 4)], strides=[2])
    case("convtranspose_shape_even", "ConvTranspose", [r(1, 2, 5, 5), r(2, 3, 3, 3)], strides=[2, 2], output_shape=[9, 9])
    case("convtranspose_shape_odd", "ConvTranspose", [r(1, 2, 5, 5), r(2, 3, 3, 3)], strides=[2, 2], output_shape=[10, 10])
    case("convtranspose_same_upper", "ConvTranspose", [r(1, 2, 5, 5), r(2, 3, 3, 3)], strides=[2, 2], auto_pad="SAME_UPPER")
    case("convtranspose_same_lower", "ConvTranspose", [r(1, 2, 5, 5), r(2, 3, 3, 3)], strides=[2, 2], auto_pad="SAME_LOWER")
    case("convtranspose_shape_upper", "ConvTranspose", [r(1, 2, 5, 5), r(2, 3, 3, 3)], strides=[2, 2], auto_pad="SAME_UPPER", output_shape=[10, 10])
    for op in ["MaxPool", "AveragePool", "LpPool"]:
        version = 19 if op == "AveragePool" else 18
        case(op.lower() + "_ceil", op, [r(1, 2, 9, 10)], opset=version, kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1)
        case(op.lower() + "_pads", op, [r(1, 2, 9, 10)], opset=version, kernel_shape=[3, 3], strides=[2, 3], pads=[1, 2, 0, 1])
        case(op.lower() + "_same", op, [r(1, 2, 9, 10)], opset=version, kernel_shape=[3, 4], strides=[2, 3], auto_pad="SAME_LOWER")
        case(op.lower() + "_1d", op, [r(1, 2, 9)], opset=version, kernel_shape=[3])
    case("averagepool_include", "AveragePool", [r(1, 2, 9, 10)], opset=19, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1, ceil_mode=1)
    case("averagepool_dilated", "AveragePool", [r(1, 2, 9, 10)], opset=19, kernel_shape=[3, 3], dilations=[2, 1], pads=[1, 1, 1, 1])
    case("maxpool_indices", "MaxPool", [r(2, 2, 6, 7)], outputs=2, kernel_shape=[3, 2], strides=[2, 2], dilations=[1, 2], pads=[1, 0, 1, 1])
    case("maxpool_columns", "MaxPool", [r(2, 2, 6, 7)], outputs=2, kernel_shape=[3, 2], strides=[2, 2], storage_order=1)
    case("maxpool_3d", "MaxPool", [r(1, 2, 5, 6, 7)], kernel_shape=[2, 3, 2], strides=[2, 1, 3])


def norm_cases():
    for v in [7, 9, 14, 15]:
        case(f"batchnorm_{v}", "BatchNormalization", [r(2, 3, 4, 5), r(3), r(3), r(3), np.abs(r(3))], opset=v, epsilon=1e-3)
    case("instancenorm", "InstanceNormalization", [r(2, 3, 4, 5), r(3), r(3)], epsilon=1e-3)
    case("layernorm_axis1", "LayerNormalization", [r(2, 3, 4), r(3, 4), r(3, 4)], outputs=3, axis=1)
    case("layernorm_16", "LayerNormalization", [r(2, 3, 4), r(4), r(4)], opset=16)
    case("simplified", "SimplifiedLayerNormalization", [r(2, 3, 4), r(4)], opset=14, epsilon=1e-3)
    case("groupnorm_21", "GroupNormalization", [r(2, 6, 4), r(6), r(6)], opset=21, num_groups=3)
    case("lrn", "LRN", [r(1, 7, 3, 3)], size=5, alpha=0.2, beta=0.6, bias=1.5)
    case("lpnorm_1", "LpNormalization", [r(2, 3, 4)], axis=1, p=1)
    case("mvn", "MeanVarianceNormalization", [r(2, 3, 4, 5)], axes=[0, 2])
    for op in ["Softmax", "LogSoftmax", "Hardmax"]:
        case(op.lower() + "_11", op, [r(2, 3, 4)], opset=11, axis=1)
        case(op.lower() + "_13", op, [r(2, 3, 4)], opset=13, axis=1)


def activation_cases():
    case("prelu", "PRelu", [r(2, 3, 4), r(3, 1)], opset=16)
    case("selu", "Selu", [r(2, 3)])
    case("celu", "Celu", [r(2, 3)], alpha=0.7)
    case("elu", "Elu", [r(2, 3)], alpha=0.7)
    case("shrink", "Shrink", [r(4, 3)], bias=0.3, lambd=0.4)
    case("thresholdedrelu", "ThresholdedRelu", [r(4, 3)], alpha=0.4)
    case("clip_6", "Clip", [r(4, 3)], opset=6, min=-0.5, max=0.25)
    case("gelu_tanh", "Gelu", [r(4, 3)], opset=20, approximate="tanh")


def index_cases():
    x = r(1, 2, 4, 5)
    for mode in ["nearest", "linear", "cubic"]:
        for how in ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]:
            case(f"resize_{mode}_{how}", "Resize", [x, None, None, i64(1, 2, 7, 3)], opset=13, mode=mode, coordinate_transformation_mode=how)
    case("resize_scales", "Resize", [x, None, np.array([1, 1, 2, 0.5], np.float32)], opset=13, mode="linear")
    case("resize_10", "Resize", [x, np.array([1, 1, 2, 3], np.float32)], opset=10, mode="linear")
    case("resize_10_nearest", "Resize", [x, np.array([1, 1, 2, 3], np.float32)], opset=10, mode="nearest")
    case("upsample_9", "Upsample", [x, np.array([1, 1, 2, 1.5], np.float32)], opset=9, mode="nearest")
    case("resize_crop", "Resize", [x, np.array([0, 0, 0.1, 0.2, 1, 1, 0.9, 1.2], np.float32), None, i64(1, 2, 3, 6)], opset=13, mode="linear",
         coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=3.0)
    case("resize_not_larger", "Resize", [x, None, None, i64(7, 13)], opset=18, mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger")
    for mode in ["constant", "reflect", "edge", "wrap"]:
        case("pad_" + mode, "Pad", [r(3, 4), i64(1, 2, 2, 3)], opset=19, mode=mode)
    case("pad_negative", "Pad", [r(3, 4), i64(1, -2, -1, 3), np.array(1.5, np.float32)], opset=13)
    case("scatter_add", "ScatterElements", [r(3, 4), np.array([[1, -1], [0, 2]]), r(2, 2)], opset=16, axis=1, reduction="add")
    case("scatternd_max", "ScatterND", [r(3, 4), np.array([[1], [0]]), r(2, 4)], opset=18, reduction="max")
    case("gathernd_batch", "GatherND", [r(2, 3, 4), np.array([[[1], [0]], [[2], [1]]])], opset=13, batch_dims=1)
    case("topk", "TopK", [np.round(r(3, 5)), i64(3)], outputs=2, opset=11, axis=1, largest=0)
    case("cumsum", "CumSum", [r(3, 4), np.array(1, np.int32)], opset=14, exclusive=1, reverse=1)
    case("depth_crd", "DepthToSpace", [r(1, 8, 2, 3)], opset=13, blocksize=2, mode="CRD")
    case("einsum_diagonal", "Einsum", [r(3, 3, 2), r(3, 2)], equation="iij,ij->j")
    case("einsum_dots", "Einsum", [r(2, 3, 4), r(1, 4, 5)], equation="...ij,...jk->...ik")
    case("einsum_implicit", "Einsum", [r(3, 2), r(2, 4)], equation="bi, ia")
    case("logsumexp", "ReduceLogSumExp", [r(2, 3, 4)], opset=13, axes=[0, 2])


def recurrent_cases():
    x, seq = r(5, 2, 3), np.array([5, 3], np.int32)
    for op, gates in [("RNN", 1), ("GRU", 3), ("LSTM", 4)]:
        outs = 3 if op == "LSTM" else 2
        h = 4
        case(op.lower(), op, [x, r(1, gates * h, 3), r(1, gates * h, h), r(1, 2 * gates * h)], outputs=outs, hidden_size=h)
        extra = [r(2, 2, h), r(2, 3 * h)] if op == "LSTM" else []
        case(op.lower() + "_both", op, [x, r(2, gates * h, 3), r(2, gates * h, h), r(2, 2 * gates * h), seq, r(2, 2, h)] + extra,
             outputs=outs, hidden_size=h, direction="bidirectional")
    case("gru_linear", "GRU", [x, r(1, 12, 3), r(1, 12, 4), r(1, 24)], outputs=2, hidden_size=4, linear_before_reset=1, direction="reverse")


def quant_cases():
    x, u8, i8 = r(2, 3, 4), np.array(120, np.uint8), np.array(-3, np.int8)
    case("quantize", "QuantizeLinear", [x, np.array(0.02, np.float32), u8], opset=13)
    case("quantize_axis", "QuantizeLinear", [x, np.array([0.02, 0.1, 0.3], np.float32), np.array([1, 0, -3], np.int8)], opset=13, axis=1)
    case("dequantize_axis", "DequantizeLinear", [rng.integers(-128, 128, (2, 3, 4)).astype(np.int8), np.array([0.02, 0.1, 0.3], np.float32), np.array([1, 0, -3], np.int8)], opset=13)
    case("dequantize_block", "DequantizeLinear", [rng.integers(0, 255, (4, 3)).astype(np.uint8), np.abs(r(2, 3)), rng.integers(0, 255, (2, 3)).astype(np.uint8)], opset=21, axis=0, block_size=2)
    case("dynamic", "DynamicQuantizeLinear", [x], outputs=3)
    a, b = rng.integers(0, 255, (3, 4)).astype(np.uint8), rng.integers(-128, 128, (4, 5)).astype(np.int8)
    case("matmulinteger", "MatMulInteger", [a, b, u8, i8])
    case("convinteger", "ConvInteger", [rng.integers(0, 255, (1, 2, 5, 5)).astype(np.uint8), rng.integers(0, 255, (3, 2, 3, 3)).astype(np.uint8), u8, np.array(7, np.uint8)], pads=[1, 1, 1, 1])


    ms = dict(domain=MS)
    sa, sb, row = np.array(0.03, np.float32), np.array(0.05, np.float32), np.abs(r(5))
    case("ms_matmulintegertofloat", "MatMulIntegerToFloat", [a, b, sa, sb, u8, i8, r(5)], **ms)
    case("ms_matmulintegertofloat_columns", "MatMulIntegerToFloat", [a, b, sa, row, u8, rng.integers(-5, 5, 5).astype(np.int8)], **ms)
    case("ms_dynamicquantizematmul", "DynamicQuantizeMatMul", [r(2, 3, 4), b, row, None, r(5)], **ms)
    case("qlinearmatmul", "QLinearMatMul", [a, sa, u8, rng.integers(0, 255, (4, 5)).astype(np.uint8), sb, np.array(9, np.uint8), np.array(0.31, np.float32), u8])
    x8, w8 = rng.integers(0, 255, (1, 2, 5, 5)).astype(np.uint8), rng.integers(-128, 128, (3, 2, 3, 3)).astype(np.int8)
    case("qlinearconv", "QLinearConv", [x8, sa, u8, w8, np.abs(r(3)), np.zeros(3, np.int8), np.array(1.7, np.float32), u8, rng.integers(-99, 99, 3).astype(np.int32)], pads=[1, 1, 1, 1])
    for bits in [4, 8]:
        blob = rng.integers(0, 256, (3, 2, 16 * bits // 8)).astype(np.uint8)
        case(f"ms_matmulnbits_{bits}", "MatMulNBits", [r(2, 4, 32), blob, np.abs(r(6))], K=32, N=3, bits=bits, block_size=16, **ms)
        zero = rng.integers(0, 256, 3 * (2 * bits // 8)).astype(np.uint8)
        case(f"ms_matmulnbits_{bits}_zero", "MatMulNBits", [r(2, 4, 32), blob, np.abs(r(6)), zero, None, r(3)], K=32, N=3, bits=bits, block_size=16, **ms)


def contrib_cases():
    ms = dict(domain=MS)
    x = r(2, 3, 8)
    case("ms_gelu", "Gelu", [x], **ms)
    case("ms_quickgelu", "QuickGelu", [x], alpha=1.5, **ms)
    case("ms_fastgelu", "FastGelu", [x, r(8)], **ms)
    case("ms_fastgelu_plain", "FastGelu", [x], **ms)
    case("ms_biasgelu", "BiasGelu", [x, r(8)], **ms)
    case("ms_fusedmatmul", "FusedMatMul", [r(2, 4, 3), r(2, 5, 4)], alpha=0.5, transA=1, transB=1, **ms)
    case("ms_fusedmatmul_batch", "FusedMatMul", [r(3, 2, 4), r(2, 4, 5)], transBatchA=1, **ms)
    case("ms_fusedmatmul_batch_both", "FusedMatMul", [r(4, 2, 3), r(2, 4, 5)], transBatchA=1, transA=1, **ms)
    for act, params in [("Relu", []), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4]), ("Tanh", []), ("Sigmoid", [])]:
        attrs = {"activation_params": [float(p) for p in params]} if params else {}
        case("ms_fusedconv_" + act, "FusedConv", [r(1, 2, 5, 5), r(3, 2, 3, 3), r(3)], activation=act, **attrs, **ms)
        gemm = {k: v for k, v in zip(["activation_alpha", "activation_beta"], map(float, params))}
        if act != "Clip":
            case("ms_fusedgemm_" + act, "FusedGemm", [r(3, 4), r(5, 4), r(5)], alpha=0.5, beta=2.0, transB=1, activation=act, **gemm, **ms)
    case("ms_fusedconv_sum", "FusedConv", [r(1, 2, 5, 5), r(3, 2, 3, 3), r(3), r(1, 3, 3, 3)], activation="Relu", **ms)
    case("ms_skipln", "SkipLayerNormalization", [x, r(2, 3, 8), r(8), r(8), r(8)], outputs=["y", "", "", "s"], epsilon=1e-3, **ms)
    case("ms_skipln_broadcast", "SkipLayerNormalization", [x, r(1, 3, 8), r(8)], epsilon=1e-3, **ms)
    case("ms_skipsln", "SkipSimplifiedLayerNormalization", [x, r(2, 3, 8), r(8), r(8)], outputs=["y", "", "", "s"], epsilon=1e-3, **ms)
    ids, seg = np.array([[1, 3, 0], [2, 2, 4]], np.int32), np.array([[0, 0, 1], [0, 1, 1]], np.int32)
    case("ms_embed", "EmbedLayerNormalization", [ids, seg, r(5, 8), r(6, 8), r(2, 8), r(8), r(8)], outputs=["y", "m", "s"], epsilon=1e-3, **ms)
    case("ms_embed_places", "EmbedLayerNormalization", [ids, None, r(5, 8), r(6, 8), None, r(8), r(8), None, np.array([[2, 1, 0]], np.int32)], outputs=["y", "m"], **ms)
    attention_cases(ms)


def attention_cases(ms):
    q, k, v = r(2, 3, 8), r(2, 5, 8), r(2, 5, 8)
    pad = np.array([[1, 1, 1, 0, 0], [1, 1, 0, 1, 0]], np.int32)
    case("ms_mha", "MultiHeadAttention", [q, k, v], num_heads=2, **ms)
    case("ms_mha_bias", "MultiHeadAttention", [q, k, v, r(24), pad, r(1, 2, 3, 5)], num_heads=2, scale=0.3, mask_filter_value=-3.0, **ms)
    case("ms_mha_heads", "MultiHeadAttention", [q, r(2, 2, 5, 4), r(2, 2, 5, 4)], num_heads=2, **ms)
    case("ms_mha_past", "MultiHeadAttention", [q, r(2, 3, 8), r(2, 3, 8), None, None, None, r(2, 2, 2, 4), r(2, 2, 2, 4)], outputs=3, num_heads=2, **ms)
    case("ms_mha_causal", "MultiHeadAttention", [q, r(2, 3, 8), r(2, 3, 8), None, None, None, r(2, 2, 2, 4), r(2, 2, 2, 4)], outputs=3, num_heads=2, unidirectional=1, **ms)
    x = r(2, 3, 6)
    case("ms_attention", "Attention", [x, r(6, 24), r(24)], num_heads=2, **ms)
    case("ms_attention_mask", "Attention", [x, r(6, 24), r(24), pad[:, :3].copy(), None, r(2, 2, 3, 3)], num_heads=2, mask_filter_value=-2.0, **ms)
    case("ms_attention_lengths", "Attention", [x, r(6, 24), r(24), np.array([2, 3], np.int32)], num_heads=2, mask_filter_value=-2.0, **ms)
    case("ms_attention_past", "Attention", [x, r(6, 24), r(24), None, r(2, 2, 2, 2, 4)], outputs=2, num_heads=2, unidirectional=1, scale=0.4, **ms)
    case("ms_attention_sizes", "Attention", [x, r(6, 20), r(20)], num_heads=2, qkv_hidden_sizes=[8, 8, 4], **ms)
    cos, sin = r(9, 2), r(9, 2)
    for inter in [0, 1]:
        case(f"ms_rotary_{inter}", "RotaryEmbedding", [q, np.array([[3, 1, 2], [0, 5, 8]]), cos, sin], interleaved=inter, **ms)
    case("ms_rotary_first", "RotaryEmbedding", [r(2, 2, 3, 4), i64(4), cos, sin], **ms)
    case("ms_rotary_part", "RotaryEmbedding", [r(2, 3, 16), i64(4), cos, sin], num_heads=2, rotary_embedding_dim=4, **ms)
    total, last = np.array(3, np.int32), np.array([2, 2], np.int32)
    empty = np.zeros((2, 1, 0, 8), np.float32)
    case("ms_gqa", "GroupQueryAttention", [r(2, 3, 16), r(2, 3, 8), r(2, 3, 8), empty, empty, last, total], outputs=3, num_heads=2, kv_num_heads=1, **ms)
    rot, empty = [r(9, 8), r(9, 8)], np.zeros((2, 1, 0, 16), np.float32)
    case("ms_gqa_rotary", "GroupQueryAttention", [r(2, 3, 32), r(2, 3, 16), r(2, 3, 16), empty, empty, last, total] + rot, outputs=3, num_heads=2, kv_num_heads=1, do_rotary=1, softcap=5.0, scale=0.4, **ms)
    case("ms_gqa_past", "GroupQueryAttention", [r(2, 1, 32), r(2, 1, 16), r(2, 1, 16), r(2, 1, 2, 16), r(2, 1, 2, 16), last, total] + rot, outputs=3, num_heads=2, kv_num_heads=1, do_rotary=1, **ms)


def build(name, op, inputs, outputs, domain, opset, attrs):
    ins = [f"x{i}" if a is not None else "" for i, a in enumerate(inputs)]
    outs = outputs if isinstance(outputs, list) else [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ins, outs, domain=domain, **attrs)
    info = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in zip(ins, inputs) if n]
    results = [helper.make_empty_tensor_value_info(o) for o in outs if o]
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(helper.make_graph([node], name, info, results), opset_imports=imports, ir_version=8)
    return model, {n: a for n, a in zip(ins, inputs) if n}


def main():
    for f in [conv_cases, norm_cases, activation_cases, index_cases, recurrent_cases, quant_cases, contrib_cases]:
        f()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    with zipfile.ZipFile("runtime.zip", "w", zipfile.ZIP_DEFLATED) as z:

        def put(path, data):
            z.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)

        for c in CASES:
            model, feed = build(*c)
            try:
                results = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feed)
            except Exception as e:
                print(c[0], str(e)[:300])
                continue
            put(f"{c[0]}/model.onnx", model.SerializeToString())
            for i, a in enumerate(feed.values()):
                put(f"{c[0]}/test_data_set_0/input_{i}.pb", numpy_helper.from_array(a).SerializeToString())
            for i, a in enumerate(results):
                put(f"{c[0]}/test_data_set_0/output_{i}.pb", numpy_helper.from_array(np.asarray(a)).SerializeToString())
    print(len(CASES), "cases")


main()

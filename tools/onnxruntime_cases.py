"""Writes small models with what ONNX Runtime gives for them: its own operators, and settings of the standard's
operators that the standard has no test case for.

Each file under crates/onnx/tests/data/onnxruntime/ holds one model without inputs: operands are initializers, and each
result `y` has an initializer `expected.y` beside it as another output. A test imports the model, evaluates it and
compares the pairs. Run with a Python that has `onnx`, `onnxruntime` and `numpy`:

    python tools/onnxruntime_cases.py
"""

import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).parent.parent / "crates/onnx/tests/data/onnxruntime"
RNG = np.random.default_rng(7)


def f32(*shape, scale=1.0):
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def u8(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def i8(*shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def case(name, op, operands, outputs, domain="com.microsoft", opset=17, fixed_operands=(), **attributes):
    """`operands`: arrays, or None where one is left out. `outputs`: how many, or a list with '' for those left out."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(operands)]
    results = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
    # An attribute may be called as a parameter of this function is; then it has an underscore here.
    attributes = {key.rstrip("_"): value for key, value in attributes.items()}
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    values = [numpy_helper.from_array(np.asarray(x), n) for n, x in zip(names, operands) if x is not None]
    shown = [r for r in results if r]
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]

    def model(outs, extra, inputs=()):
        graph = helper.make_graph([node], name, list(inputs), outs, list(extra))
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    # ONNX Runtime infers the types; operands are graph inputs so that it cannot fold them away.
    inputs = [helper.make_tensor_value_info(v.name, v.data_type, list(v.dims)) for v in values]
    packed = {"MatMulNBits": ("x1", "x2", "x3"), "GatherBlockQuantized": ("x0", "x2", "x3")}.get(op, fixed_operands)
    fixed = [v for v in values if v.name in packed]
    free = [i for i in inputs if i.name not in packed]
    probe = model([onnx.ValueInfoProto(name=r) for r in shown], fixed, free)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(probe.SerializeToString(), options, providers=["CPUExecutionProvider"])
        feeds = {v.name: numpy_helper.to_array(v) for v in values if v.name not in packed}
        expected = session.run(shown, feeds)
    except Exception as error:  # noqa: BLE001 - which of them run at all depends on the build
        print(f"left out {name}: {str(error)[:200]}")
        return
    pairs, more = [], []
    for result, value in zip(shown, expected):
        kind = numpy_helper.from_array(np.asarray(value), f"expected.{result}")
        more.append(kind)
        pairs.append(helper.make_tensor_value_info(result, kind.data_type, list(kind.dims)))
        pairs.append(helper.make_tensor_value_info(kind.name, kind.data_type, list(kind.dims)))
    onnx.save(model(pairs, values + more), OUT / f"{name}.onnx")


def fused():
    x = f32(2, 3, 4)
    case("gelu", "Gelu", [x], 1)
    case("fast_gelu_bias", "FastGelu", [x, f32(4)], 1)
    case("bias_gelu", "BiasGelu", [x, f32(4)], 1)
    case("quick_gelu", "QuickGelu", [x], 1, alpha=1.5)
    case("fused_matmul", "FusedMatMul", [f32(2, 5, 3), f32(2, 4, 5)], 1, transA=1, transB=1, alpha=0.5)
    case("fused_matmul_broadcast", "FusedMatMul", [f32(2, 3, 5), f32(4, 5)], 1, transB=1)
    case("fused_conv", "FusedConv", [f32(1, 3, 5, 5), f32(4, 3, 3, 3), f32(4)], 1, activation="Relu", pads=[1, 1, 1, 1])
    case("fused_conv_clip", "FusedConv", [f32(1, 2, 5), f32(2, 2, 3)], 1, activation="Clip", activation_params=[-0.5, 0.5])
    case("fused_gemm", "FusedGemm", [f32(3, 4), f32(5, 4), f32(5)], 1, transB=1, alpha=0.5, beta=2.0,
         activation="LeakyRelu", activation_alpha=0.1)


def norms():
    x, skip = f32(2, 3, 8), f32(2, 3, 8)
    case("skip_layer_norm", "SkipLayerNormalization", [x, skip, f32(8), f32(8), f32(8)], ["y0", "", "", "y3"], epsilon=1e-5)
    case("skip_layer_norm_broadcast", "SkipLayerNormalization", [x, f32(1, 3, 8), f32(8), f32(8)], 1)
    case("skip_simplified_layer_norm", "SkipSimplifiedLayerNormalization", [x, skip, f32(8)], ["y0", "", "", "y3"], epsilon=1e-6)
    case("simplified_layer_norm", "SimplifiedLayerNormalization", [x, f32(8)], 1, domain="", epsilon=1e-5, axis=-1)
    words = RNG.integers(0, 9, (2, 4)).astype(np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
    case("embed_layer_norm", "EmbedLayerNormalization",
         [words, (words % 2).astype(np.int32), f32(9, 8), f32(6, 8), f32(2, 8), f32(8), f32(8), mask], 2, epsilon=1e-12)


def quantized():
    s = lambda v: np.float32(v)
    z = lambda v: np.uint8(v)
    x, y = u8(2, 3, 4), u8(2, 3, 4)
    for op in ("QLinearAdd", "QLinearMul"):
        case(op.lower(), op, [x, s(0.1), z(120), y, s(0.05), z(100), s(0.2), z(128)], 1)
    case("qlinear_sigmoid", "QLinearSigmoid", [x, s(0.05), z(128), s(1 / 256), z(0)], 1)
    case("qlinear_leaky_relu", "QLinearLeakyRelu", [x, s(0.05), z(128), s(0.04), z(60)], 1, alpha=0.2)
    case("qlinear_softmax", "QLinearSoftmax", [x, s(0.02), z(128), s(1 / 256), z(0)], 1, axis=-1, opset_=13)
    case("qlinear_concat", "QLinearConcat", [s(0.1), z(128), x, s(0.08), z(120), y, s(0.1), z(128)], 1, axis=1)
    image = u8(1, 3, 6, 6)
    case("qlinear_average_pool", "QLinearAveragePool", [image, s(0.1), z(100), s(0.1), z(110)], 1,
         kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    case("qlinear_global_average_pool", "QLinearGlobalAveragePool", [image, s(0.1), z(100), s(0.05), z(110)], 1, channels_last=0)
    case("dynamic_quantize_matmul", "DynamicQuantizeMatMul", [f32(2, 3, 8), i8(8, 5), f32(5, scale=0.01) ** 2, i8(5) // 16, f32(5)], 1)
    case("matmul_integer_to_float", "MatMulIntegerToFloat",
         [u8(2, 3, 8), u8(8, 5), s(0.1), s(0.05), z(120), z(130), f32(5)], 1)
    case("qgemm", "QGemm", [u8(3, 4), s(0.05), z(128), i8(5, 4), s(0.04), np.int8(3), RNG.integers(-99, 99, 5).astype(np.int32),
                            s(0.06), z(120)], 1, transB=1)
    case("qgemm_float", "QGemm", [u8(3, 4), s(0.05), z(128), i8(4, 5), s(0.04), np.int8(0)], 1, alpha=0.5)


def weights():
    for bits in (4, 8):
        block, rows, inner = 16, 5, 40
        blocks = -(-inner // block)
        packed = u8(rows, blocks, block * bits // 8)
        scales = f32(rows, blocks, scale=0.1)
        case(f"matmul_{bits}bits", "MatMulNBits", [f32(2, inner), packed, scales], 1, K=inner, N=rows, bits=bits, block_size=block)
        zeros = u8(rows, -(-blocks * bits // 8))
        case(f"matmul_{bits}bits_zeros", "MatMulNBits", [f32(2, 3, inner), packed, scales, zeros, None, f32(rows)], 1,
             K=inner, N=rows, bits=bits, block_size=block)
    case("gather_4bits", "GatherBlockQuantized", [u8(6, 16), np.array([[1, 5], [0, 2]], np.int64), f32(6, 2)], 1,
         gather_axis=0, quantize_axis=1, block_size=16, bits=4)


def attention():
    b, s, heads, d = 2, 3, 2, 4
    width = heads * d
    x, w, bias = f32(b, s, 6), f32(6, 3 * width), f32(3 * width)
    mask = np.array([[1, 1, 1], [1, 1, 0]], np.int32)
    case("attention", "Attention", [x, w, bias, mask], 1, num_heads=heads)
    case("attention_lengths", "Attention", [x, w, bias, np.array([3, 2], np.int32)], 1, num_heads=heads)
    past = f32(2, b, heads, 5, d)
    case("attention_causal_past", "Attention", [x, w, bias, None, past], 2, num_heads=heads, unidirectional=1)
    quantized_w = RNG.integers(-20, 20, (6, 3 * width)).astype(np.int8)
    case("qattention", "QAttention", [u8(b, s, 6), quantized_w, bias, np.float32(0.01), np.float32(0.02), mask,
                                      np.uint8(120), np.int8(0)], 1, num_heads=heads)
    q, k, v = f32(b, s, width), f32(b, 5, width), f32(b, 5, width)
    padding = np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int32)
    case("multi_head", "MultiHeadAttention", [q, k, v], 1, num_heads=heads)
    case("multi_head_bias", "MultiHeadAttention", [q, k, v, bias, padding, f32(1, heads, s, 5)], 1, num_heads=heads, scale=0.3)
    case("multi_head_past", "MultiHeadAttention",
         [q, f32(b, s, width), f32(b, s, width), None, None, None, f32(b, heads, 4, d), f32(b, heads, 4, d)], 3,
         num_heads=heads, unidirectional=1)
    angles = np.arange(16)[:, None] / (10 ** np.arange(4)[None, :])
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    places = np.array([[0, 1, 2], [4, 5, 6]], np.int64)
    case("rotary", "RotaryEmbedding", [f32(b, s, 2 * 8), places, cos, sin], 1)
    case("rotary_interleaved", "RotaryEmbedding", [f32(b, 2, s, 8), np.array([3], np.int64), cos, sin], 1, interleaved=1)


def grouped():
    b, s, heads, groups, d = 2, 3, 4, 2, 16
    angles = np.arange(32)[:, None] / (10 ** np.arange(8)[None, :])
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    def qkv(s):
        return [f32(b, s, heads * d), f32(b, s, groups * d), f32(b, s, groups * d)]
    i32 = lambda *v: np.array(v, np.int32)
    common = dict(num_heads=heads, kv_num_heads=groups)
    case("grouped_prompt", "GroupQueryAttention", [*qkv(s), None, None, i32(s - 1, s - 1), i32(s)], 3, **common)
    case("grouped_rotary", "GroupQueryAttention", [*qkv(s), None, None, i32(s - 1, s - 1), i32(s), cos, sin], 3,
         do_rotary=1, **common)
    cache = [f32(b, groups, 6, d), f32(b, groups, 6, d)]
    case("grouped_past", "GroupQueryAttention", [*qkv(1), *cache, i32(6, 6), i32(7), cos, sin], 3,
         do_rotary=1, rotary_interleaved=1, **common)
    case("grouped_window", "GroupQueryAttention", [*qkv(1), *cache, i32(6, 6), i32(7)], 3, local_window_size=3, **common)
    case("grouped_prompt_window", "GroupQueryAttention", [*qkv(6), None, None, i32(5, 5), i32(6)], 3, local_window_size=2,
         softcap=5.0, scale=0.7, **common)
    case("grouped_packed", "GroupQueryAttention", [f32(b, s, (heads + 2 * groups) * d), None, None, None, None,
                                                   i32(s - 1, s - 1), i32(s)], 3, **common)
    case("grouped_smooth", "GroupQueryAttention", [*qkv(s), None, None, i32(s - 1, s - 1), i32(s)], 1, smooth_softmax=1, **common)
    case("grouped_sink", "GroupQueryAttention",
         [*qkv(s), None, None, i32(s - 1, s - 1), i32(s), None, None, None, None, f32(heads)], 1, **common)


def standard(name, op, operands, outputs=1, opset=17, fixed=(), **attributes):
    case(name, op, operands, outputs, domain="", opset=opset, fixed_operands=fixed, **attributes)


def recurrent():
    s, b, i, h = 4, 3, 2, 3
    lengths = np.array([4, 2, 3], np.int32)
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        results = 3 if op == "LSTM" else 2
        for direction, d in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            def weights():
                return [f32(s, b, i), f32(d, gates * h, i), f32(d, gates * h, h), f32(d, 2 * gates * h)]
            states = [f32(d, b, h)] * (2 if op == "LSTM" else 1)
            name = f"{op.lower()}_{direction}"
            standard(name, op, [*weights(), lengths, *states], results, hidden_size=h, direction=direction)
            if op != "LSTM":
                # ONNX Runtime does not limit what goes into an LSTM's last activation, which the standard asks for.
                standard(f"{name}_clip", op, weights(), results, hidden_size=h, direction=direction, clip=0.4)
    x = lambda d, g: [f32(s, b, i), f32(d, g * h, i), f32(d, g * h, h), f32(d, 2 * g * h)]
    standard("lstm_peepholes", "LSTM", [*x(1, 4), None, f32(1, b, h), f32(1, b, h), f32(1, 3 * h)], 3, hidden_size=h)
    standard("lstm_input_forget", "LSTM", x(1, 4), 3, hidden_size=h, input_forget=1)
    standard("lstm_activations", "LSTM", x(2, 4), 3, hidden_size=h, direction="bidirectional",
             activations=["HardSigmoid", "Elu", "Softsign", "Sigmoid", "ScaledTanh", "Relu"],
             activation_alpha=[0.3, 0.7, 1.2], activation_beta=[0.4, 0.8])
    standard("gru_reset_after", "GRU", [*x(2, 3), lengths], 2, hidden_size=h, direction="bidirectional", linear_before_reset=1)
    standard("gru_activations", "GRU", x(1, 3), 2, hidden_size=h, activations=["HardSigmoid", "Softplus"],
             activation_alpha=[0.25], activation_beta=[0.45])
    standard("rnn_affine", "RNN", x(1, 1), 2, hidden_size=h, activations=["Affine"], activation_alpha=[0.5], activation_beta=[0.1])


def resize():
    x = f32(1, 2, 5, 7)
    for mode in ("nearest", "linear", "cubic"):
        for coordinates in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"):
            for scales in ([1, 1, 2, 1.7], [1, 1, 0.6, 0.5]):
                # How the standard and ONNX Runtime round the last place differs with fractional sizes.
                if coordinates in ("align_corners", "half_pixel_symmetric"):
                    scales = [1, 1, round(5 * scales[2]) / 5, round(7 * scales[3]) / 7]
                tag = "up" if scales[2] > 1 else "down"
                standard(f"resize_{mode}_{coordinates}_{tag}", "Resize", [x, None, np.array(scales, np.float32)], opset=19,
                         fixed=("x2",), mode=mode, coordinate_transformation_mode=coordinates)
    sizes = np.array([1, 2, 3, 3], np.int64)
    for mode in ("linear", "cubic"):
        standard(f"resize_{mode}_antialias", "Resize", [x, None, None, sizes], opset=19, fixed=("x3",), mode=mode, antialias=1)
    standard("resize_cubic_exclude_outside", "Resize", [x, None, None, np.array([1, 2, 9, 9], np.int64)], opset=19,
             fixed=("x3",), mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
    roi = np.array([0, 0, 0.2, -0.1, 1, 1, 0.8, 1.2], np.float32)
    standard("resize_crop", "Resize", [x, roi, None, np.array([1, 2, 4, 6], np.int64)], opset=19, fixed=("x1", "x3"),
             mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)
    standard("resize_10", "Resize", [x, np.array([1, 1, 2, 2.5], np.float32)], opset=10, fixed=("x1",), mode="linear")
    standard("upsample_9", "Upsample", [x, np.array([1, 1, 2, 3], np.float32)], opset=9, fixed=("x1",), mode="nearest")


def pools():
    x = f32(1, 2, 8, 7)
    for op in ("MaxPool", "AveragePool", "LpPool"):
        standard(f"{op.lower()}_ceil", op, [x], opset=22, kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1)
        standard(f"{op.lower()}_dilated", op, [x], opset=22, kernel_shape=[2, 3], dilations=[3, 2], pads=[1, 1, 1, 1])
        standard(f"{op.lower()}_same_lower", op, [x], opset=22, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")
    standard("averagepool_count", "AveragePool", [x], opset=22, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1],
             ceil_mode=1, count_include_pad=1)
    standard("maxpool_indices", "MaxPool", [x], 2, opset=12, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1])
    standard("maxpool_indices_columns", "MaxPool", [x], 2, opset=12, kernel_shape=[2, 2], strides=[2, 1], storage_order=1)
    standard("maxpool_u8", "MaxPool", [u8(1, 2, 6, 6)], opset=12, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    standard("maxpool_1d", "MaxPool", [f32(2, 3, 9)], opset=12, kernel_shape=[4], strides=[3], ceil_mode=1)
    standard("maxpool_3d", "MaxPool", [f32(1, 1, 5, 6, 4)], 2, opset=12, kernel_shape=[2, 3, 2], strides=[2, 2, 1])
    regions = np.array([[0, 0, 0, 6, 5], [1, 2, 1, 7, 7], [0, 4, 4, 4, 4]], np.float32)
    standard("max_roi_pool", "MaxRoiPool", [f32(2, 2, 8, 8), regions], pooled_shape=[3, 2], spatial_scale=0.9)
    standard("global_lp_pool", "GlobalLpPool", [x], p=3)


def convolutions():
    standard("conv_grouped_dilated", "Conv", [f32(2, 4, 9, 8), f32(6, 2, 3, 2), f32(6)], group=2, dilations=[2, 1],
             strides=[1, 2], pads=[2, 1, 1, 0])
    standard("conv_3d_same", "Conv", [f32(1, 2, 5, 4, 6), f32(3, 2, 2, 3, 2)], auto_pad="SAME_LOWER", strides=[2, 1, 2])
    standard("conv_depthwise_1d", "Conv", [f32(1, 3, 10), f32(6, 1, 4)], group=3, strides=[3])
    standard("conv_transpose_grouped", "ConvTranspose", [f32(1, 4, 5, 4), f32(4, 3, 3, 2), f32(6)], group=2, strides=[2, 3],
             dilations=[2, 1], pads=[1, 0, 2, 1], output_padding=[1, 2])
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        standard(f"conv_transpose_{auto.lower()}", "ConvTranspose", [f32(1, 2, 4, 5), f32(2, 3, 4, 3)], strides=[3, 2], auto_pad=auto)
    standard("conv_transpose_shape", "ConvTranspose", [f32(1, 2, 4, 5), f32(2, 3, 4, 3)], strides=[3, 2], output_shape=[12, 10])
    standard("qlinear_conv", "QLinearConv", [u8(1, 2, 6, 5), np.float32(0.05), np.uint8(120), i8(3, 2, 3, 3),
             np.array([0.01, 0.02, 0.03], np.float32), np.zeros(3, np.int8), np.float32(0.1), np.uint8(110),
             RNG.integers(-500, 500, 3).astype(np.int32)], strides=[2, 1], pads=[1, 1, 1, 1])
    standard("conv_integer", "ConvInteger", [u8(1, 2, 5, 5), u8(3, 2, 3, 3), np.uint8(120), np.uint8(9)], pads=[1, 0, 1, 0])


def detection():
    boxes = np.abs(f32(2, 12, 4))
    scores = np.abs(f32(2, 3, 12))
    limits = [np.array([4], np.int64), np.array([0.3], np.float32), np.array([0.4], np.float32)]
    standard("nms_corners", "NonMaxSuppression", [boxes, scores, *limits])
    standard("nms_centered", "NonMaxSuppression", [boxes, scores, *limits], center_point_box=1)
    standard("nms_no_score", "NonMaxSuppression", [boxes, scores, *limits[:2]])
    standard("nms_none", "NonMaxSuppression", [boxes, scores])
    x, images = f32(2, 3, 9, 8), np.array([0, 1, 1], np.int64)
    regions = np.array([[1, 2, 13, 14.5], [0, 0, 30, 30], [5, 5, 6, 6]], np.float32)
    for mode in ("avg", "max"):
        for coordinates in ("half_pixel", "output_half_pixel"):
            standard(f"roi_align_{mode}_{coordinates}", "RoiAlign", [x, regions, images], mode=mode, output_height=3,
                     output_width=2, spatial_scale=0.5, sampling_ratio=0 if mode == "avg" else 2,
                     coordinate_transformation_mode=coordinates)
    grid = f32(1, 4, 5, 2, scale=0.8)
    for mode in ("bilinear", "nearest", "bicubic"):
        for padding in ("zeros", "border", "reflection"):
            for align in (0, 1):
                standard(f"grid_sample_{mode}_{padding}_{align}", "GridSample", [f32(1, 2, 4, 6), grid], mode=mode,
                         padding_mode=padding, align_corners=align)


def signal_and_others():
    x = f32(2, 10, 1)
    standard("dft_length", "DFT", [x, np.array(12, np.int64)], fixed=("x1",), onesided=1, axis=1)
    standard("dft_complex_inverse", "DFT", [f32(2, 3, 7, 2)], inverse=1, axis=2)
    standard("stft", "STFT", [f32(1, 32, 1), np.array(5, np.int64), f32(8), np.array(8, np.int64)], fixed=("x1", "x3"))
    for name, equation, shapes in (
        ("diagonal", "ii->i", [(4, 4)]), ("trace", "...ii->...", [(2, 4, 4)]), ("outer", "i,j", [(3,), (4,)]),
        ("chain", "ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]), ("batch", "b...ij,b...jk->b...ik", [(2, 3, 4, 5), (2, 3, 5, 6)]),
        ("attention", "bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]), ("sum", "abc->b", [(2, 3, 4)]),
        ("broadcast", "...i,...i->...", [(1, 3, 4), (2, 1, 4)]),
    ):
        standard(f"einsum_{name}", "Einsum", [f32(*s) for s in shapes], equation=equation)
    standard("det_batch", "Det", [f32(2, 3, 5, 5)])
    standard("instance_norm", "InstanceNormalization", [f32(2, 3, 4, 5), f32(3), f32(3)], epsilon=1e-3)
    standard("lrn", "LRN", [f32(1, 7, 3, 2)], size=5, alpha=0.3, beta=0.6, bias=1.5)
    standard("layer_norm", "LayerNormalization", [f32(2, 3, 4), f32(3, 4), f32(3, 4)], 3, axis=1)
    standard("quantize_axis", "QuantizeLinear", [f32(2, 3, 4), np.array([0.1, 0.2, 0.3], np.float32), u8(3)], axis=1)


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for old in OUT.glob("*.onnx"):
        old.unlink()
    for group in (fused, norms, quantized, weights, attention, grouped, recurrent, resize, pools, convolutions,
                  detection, signal_and_others):
        group()
    print(f"{len(list(OUT.glob('*.onnx')))} models in {OUT}")

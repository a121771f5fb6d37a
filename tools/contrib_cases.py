"""Writes small models of ONNX Runtime's own operators with what ONNX Runtime gives for them.

Each file under crates/onnx/tests/data/contrib/ holds one model without inputs: operands are initializers, and each
result `y` has an initializer `expected.y` beside it as another output. A test imports the model, evaluates it and
compares the pairs. Run with a Python that has `onnx`, `onnxruntime` and `numpy`:

    python tools/contrib_cases.py
"""

import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).parent.parent / "crates/onnx/tests/data/contrib"
RNG = np.random.default_rng(7)


def f32(*shape, scale=1.0):
    return (RNG.standard_normal(shape) * scale).astype(np.float32)


def u8(*shape):
    return RNG.integers(0, 256, shape).astype(np.uint8)


def i8(*shape):
    return RNG.integers(-128, 128, shape).astype(np.int8)


def case(name, op, operands, outputs, domain="com.microsoft", compare=None, **attributes):
    """`operands`: arrays, or None where one is left out. `outputs`: how many, or a list with '' for those left out."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(operands)]
    results = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else outputs
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    values = [numpy_helper.from_array(np.asarray(x), n) for n, x in zip(names, operands) if x is not None]
    shown = [r for r in results if r]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]

    def model(outs, extra, inputs=()):
        graph = helper.make_graph([node], name, list(inputs), outs, list(extra))
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    # ONNX Runtime infers the types; operands are graph inputs so that it cannot fold them away.
    inputs = [helper.make_tensor_value_info(v.name, v.data_type, list(v.dims)) for v in values]
    packed = {"MatMulNBits": ("x1", "x2", "x3"), "GatherBlockQuantized": ("x0", "x2", "x3")}.get(op, ())
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
    case("qlinear_softmax", "QLinearSoftmax", [x, s(0.02), z(128), s(1 / 256), z(0)], 1, axis=-1, opset=13)
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


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    for group in (fused, norms, quantized, weights, attention, grouped):
        group()
    print(f"{len(list(OUT.glob('*.onnx')))} models in {OUT}")

"""Models that are wrong on purpose, for `bad_input.py`, each with the words a diagnostic of it must contain."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HUGE = 2**62


def value(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, inputs, outputs, initializers=(), functions=(), opset=20, domains=()):
    graph = helper.make_graph(nodes, "damaged", inputs, outputs, list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions), ir_version=10)


def node(op, inputs, outputs, name, **attributes):
    return helper.make_node(op, inputs, outputs, name=name, **attributes)


def external(path, offset=None, length=None, dims=(4,)):
    """A tensor `weights` whose data is said to lie in another file."""
    tensor = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", path), ("offset", offset), ("length", length)):
        if text is not None:
            tensor.external_data.add(key=key, value=str(text))
    return tensor


def with_weights(tensor):
    return model(
        [node("Add", ["x", "weights"], ["y"], "sum")], [value("x", [4])], [value("y", [4])], [tensor]
    )


def nested(depth):
    """An If within an If within an If …: a chain, since two nested branches each would double at every level."""
    leaf = helper.make_graph([node("Identity", ["x"], ["leaf"], "leaf")], "leaf", [], [value("leaf", [1])])
    inner = leaf
    for level in range(depth):
        branch = node("If", ["c"], [f"b{level}"], f"if{level}", then_branch=inner, else_branch=leaf)
        inner = helper.make_graph([branch], f"g{level}", [], [value(f"b{level}", [1])])
    top = node("If", ["c"], ["y"], "top", then_branch=inner, else_branch=leaf)
    return model([top], [value("x", [1]), value("c", [], TensorProto.BOOL)], [value("y", [1])])


def recursive_function():
    """A model function that calls itself."""
    function = helper.make_function(
        "own",
        "Forever",
        ["a"],
        ["b"],
        [helper.make_node("Forever", ["a"], ["b"], domain="own", name="again")],
        [helper.make_opsetid("own", 1)],
    )
    call = helper.make_node("Forever", ["x"], ["y"], domain="own", name="call")
    return model([call], [value("x", [1])], [value("y", [1])], functions=[function], domains=["own"])


def int64(name, values):
    return numpy_helper.from_array(np.asarray(values, dtype=np.int64), name)


# Well formed, but no machine has the memory: `inspect` may describe them, `run` must refuse.
IMPOSSIBLE_TO_RUN = {
    "big-constant-of-shape",
    "huge-constant-of-shape",
    "huge-range",
    "huge-expand",
    "huge-tile",
    "huge-pad",
    "huge-kernel",
}


def hand_made():
    """(name, model, words the diagnostic must contain)."""
    x, y = [value("x", [4])], [value("y", [4])]
    add = node("Add", ["x", "w"], ["y"], "sum")
    short = numpy_helper.from_array(np.ones(4, np.float32), "w")
    short.dims[0] = 1000
    negative = numpy_helper.from_array(np.ones(4, np.float32), "w")
    negative.dims[0] = -4
    huge = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[HUGE, HUGE], raw_data=b"\0\0\0\0")
    unknown_type = TensorProto(name="w", data_type=9999, dims=[1], raw_data=b"\0\0\0\0")
    ones = numpy_helper.from_array(np.ones(4, np.float32), "w")
    return [
        (
            "cycle",
            model(
                [
                    node("Relu", ["b"], ["a"], "first"),
                    node("Relu", ["a"], ["b"], "second"),
                    node("Add", ["x", "b"], ["y"], "sum"),
                ],
                x,
                y,
            ),
            ["first"],
        ),
        ("self-loop", model([node("Add", ["x", "y"], ["y"], "loop")], x, y), ["loop"]),
        ("missing-initializer", model([add], x, y), ["w"]),
        ("missing-output", model([node("Relu", ["x"], ["z"], "relu")], x, y), ["y"]),
        (
            "defined-twice",
            model([node("Relu", ["x"], ["y"], "one"), node("Relu", ["x"], ["y"], "two")], x, y),
            ["y"],
        ),
        ("wrong-dtype", model([add], x, y, [int64("w", [1, 2, 3, 4])]), ["sum"]),
        (
            "wrong-declared-dtype",
            model([node("Relu", ["x"], ["y"], "relu")], x, [value("y", [4], TensorProto.INT64)]),
            ["y"],
        ),
        ("unknown-dtype", model([add], x, y, [unknown_type]), ["w"]),
        (
            "string-input",
            model([node("Relu", ["x"], ["y"], "relu")], [value("x", [4], TensorProto.STRING)], y),
            ["x"],
        ),
        (
            "shape-mismatch",
            model(
                [node("MatMul", ["x", "w"], ["y"], "product")],
                [value("x", [2, 3])],
                [value("y", [2, 2])],
                [numpy_helper.from_array(np.ones((4, 2), np.float32), "w")],
            ),
            ["product"],
        ),
        ("data-too-short", model([add], x, y, [short]), ["w"]),
        ("negative-dim", model([add], x, y, [negative]), ["w"]),
        ("huge-initializer", model([add], x, y, [huge]), ["w"]),
        (
            "huge-input-dim",
            model(
                [node("Relu", ["x"], ["y"], "relu")], [value("x", [HUGE, HUGE])], [value("y", [HUGE, HUGE])]
            ),
            ["x"],
        ),
        (
            "huge-constant-of-shape",
            model(
                [node("ConstantOfShape", ["s"], ["y"], "fill")], [], [value("y", None)], [int64("s", [HUGE])]
            ),
            ["fill"],
        ),
        (
            "big-constant-of-shape",
            model(
                [
                    node("ConstantOfShape", ["s"], ["c"], "fill"),
                    node("ReduceSum", ["c"], ["y"], "total", keepdims=0),
                ],
                [],
                [value("y", [])],
                [int64("s", [2**40])],
            ),
            ["fill"],
        ),
        (
            "huge-split",
            model(
                [
                    node("SplitToSequence", ["x"], ["s"], "split"),
                    node("SequenceLength", ["s"], ["y"], "count"),
                ],
                [value("x", [2**31])],
                [value("y", [], TensorProto.INT64)],
            ),
            ["split"],
        ),
        (
            "huge-range",
            model(
                [node("Range", ["a", "b", "c"], ["y"], "range")],
                [],
                [value("y", None, TensorProto.INT64)],
                [int64("a", 0), int64("b", HUGE), int64("c", 1)],
            ),
            ["range"],
        ),
        (
            "huge-expand",
            model(
                [node("Expand", ["x", "s"], ["y"], "expand")],
                x,
                [value("y", None)],
                [int64("s", [2**30, 2**30, 4])],
            ),
            ["expand"],
        ),
        (
            "huge-tile",
            model([node("Tile", ["x", "s"], ["y"], "tile")], x, [value("y", None)], [int64("s", [HUGE])]),
            ["tile"],
        ),
        (
            "huge-pad",
            model([node("Pad", ["x", "s"], ["y"], "pad")], x, [value("y", None)], [int64("s", [HUGE, HUGE])]),
            ["pad"],
        ),
        (
            "huge-kernel",
            model(
                [node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2**40, 2**40])],
                [value("x", [1, 1, 4, 4])],
                [value("y", None)],
            ),
            ["pool"],
        ),
        (
            "zero-stride",
            model(
                [node("MaxPool", ["x"], ["y"], "pool", kernel_shape=[2, 2], strides=[0, 0])],
                [value("x", [1, 1, 4, 4])],
                [value("y", None)],
            ),
            ["pool"],
        ),
        (
            "zero-group",
            model(
                [node("Conv", ["x", "w"], ["y"], "conv", group=0)],
                [value("x", [1, 4, 4, 4])],
                [value("y", None)],
                [numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w")],
            ),
            ["conv"],
        ),
        (
            "bad-permutation",
            model(
                [node("Transpose", ["x"], ["y"], "turn", perm=[0, 7])],
                [value("x", [2, 2])],
                [value("y", None)],
            ),
            ["turn"],
        ),
        ("bad-axis", model([node("Softmax", ["x"], ["y"], "soft", axis=9)], x, y), ["soft"]),
        (
            "reshape-count",
            model(
                [node("Reshape", ["x", "s"], ["y"], "reshape")], x, [value("y", None)], [int64("s", [3, 5])]
            ),
            ["reshape"],
        ),
        (
            "reshape-negative",
            model(
                [node("Reshape", ["x", "s"], ["y"], "reshape")], x, [value("y", None)], [int64("s", [-1, -1])]
            ),
            ["reshape"],
        ),
        ("too-few-inputs", model([node("Add", ["x"], ["y"], "sum")], x, y), ["sum"]),
        ("too-many-outputs", model([node("Relu", ["x"], ["y", "z"], "relu")], x, y), ["relu"]),
        ("unknown-operator", model([node("Teleport", ["x"], ["y"], "beam")], x, y), ["beam", "Teleport"]),
        (
            "two-unknown-operators",
            model([node("Teleport", ["x"], ["a"], "beam"), node("Levitate", ["a"], ["y"], "rise")], x, y),
            ["beam", "rise"],
        ),
        (
            "unknown-domain",
            model(
                [helper.make_node("Relu", ["x"], ["y"], domain="nowhere", name="relu")],
                x,
                y,
                domains=["nowhere"],
            ),
            ["relu"],
        ),
        ("future-opset", model([node("Relu", ["x"], ["y"], "relu")], x, y, opset=999), ["999"]),
        ("recursive-function", recursive_function(), ["Forever"]),
        ("external-parent", with_weights(external("../../../../../../etc/passwd")), ["weights"]),
        ("external-absolute", with_weights(external("/etc/passwd")), ["weights"]),
        ("external-link", with_weights(external("link.bin")), ["weights"]),
        ("external-missing", with_weights(external("nothing.bin")), ["weights", "nothing.bin"]),
        ("external-short", with_weights(external("short.bin")), ["weights"]),
        ("external-offset", with_weights(external("short.bin", offset=HUGE)), ["weights"]),
        ("external-negative", with_weights(external("short.bin", offset=-8)), ["weights"]),
        ("external-length", with_weights(external("short.bin", length=2**63)), ["weights"]),
        ("external-huge", with_weights(external("short.bin", dims=(HUGE, 8))), ["weights"]),
        ("external-device", with_weights(external("zero-device")), ["weights"]),
        ("no-opset", without_opset(model([node("Relu", ["x"], ["y"], "relu")], x, y)), ["opset"]),
        ("no-graph", onnx.ModelProto(ir_version=10), ["graph"]),
        ("duplicate-initializer", model([add], x, y, [ones, ones]), ["w"]),
    ]


def without_opset(proto):
    del proto.opset_import[:]
    return proto


def deep_nesting(levels):
    """A message nested by hand: protobuf's own library would refuse to build it."""
    # graph (field 7) > node (1) > attribute (5) > g (6) > node …
    body = b""
    for _ in range(levels):
        for field in (6, 5, 1):
            body = bytes([field << 3 | 2]) + varint(len(body)) + body
    return bytes([8, 10, 7 << 3 | 2]) + varint(len(body)) + body


def varint(number):
    out = bytearray()
    while True:
        out.append((number & 127) | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(out)

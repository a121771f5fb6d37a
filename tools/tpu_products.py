"""Write products of bfloat16 matrices as models, one each.

In networks a compiler computes a product together with what stands around it; these show what the product alone takes.

Usage: python tools/tpu_products.py FOLDER      (tools/requirements-zoo.txt; `cargo xtask validate tpu`)
"""

import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

# Rows, columns, depth.
SIZES = [
    (512, 2304, 768),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (2048, 6144, 2048),
    (2048, 8192, 2048),
    (2048, 2048, 8192),
    (4096, 4096, 4096),
]


def value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.BFLOAT16, shape)


def write(path, sizes):
    rows, columns, depth = sizes
    inputs = [value("left", rows, depth), value("right", depth, columns)]
    nodes = [helper.make_node("MatMul", ["left", "right"], ["product"])]
    graph = helper.make_graph(nodes, "product", inputs, [value("product", rows, columns)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for sizes in SIZES:
        write(folder / f"{'x'.join(map(str, sizes))}.onnx", sizes)


if __name__ == "__main__":
    main()

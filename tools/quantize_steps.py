"""How often a layer on integers gives another code than ONNX Runtime, and by how many steps at most.

Of a model in QDQ form each layer (convolution or product between dequantizing and quantizing, with what is added to its
channels and a clip) becomes one of its own that reads codes and gives codes. Both runtimes get the codes that ONNX Runtime
has there when it runs the whole model with graph optimizations off, so that differences do not add up from layer to layer
and no kernel that saturates is in the way.

Usage: python tools/quantize_steps.py ANYCHIP MODEL.onnx INPUTS.npz [SAMPLES]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

LAYERS = ("Conv", "Gemm", "MatMul")
BETWEEN = ("Add", "Relu", "Clip")


def exact_session(model):
    """A session that computes what the file says, operator by operator."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    data = model if isinstance(model, (str, Path)) else model.SerializeToString()
    return ort.InferenceSession(str(data) if isinstance(data, Path) else data, options, providers=["CPUExecutionProvider"])


class Finder:
    def __init__(self, graph):
        self.made = {name: node for node in graph.node for name in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.users = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)
        self.outputs = {value.name for value in graph.output}

    def constant(self, name):
        """The nodes and tensors that a constant operand is made of; None where it is not constant."""
        if name in self.constants:
            return [], [self.constants[name]]
        node = self.made.get(name)
        if node is None or node.op_type not in ("DequantizeLinear", "Constant"):
            return None
        parts = [self.constant(i) for i in node.input]
        if any(part is None for part in parts):
            return None
        return sum((p[0] for p in parts), []) + [node], sum((p[1] for p in parts), [])

    def layer(self, node):
        """The nodes and constants from the codes of a layer's input to those of its result, and the names of both."""
        start = self.made.get(node.input[0])
        if start is None or start.op_type != "DequantizeLinear" or start.input[0] in self.constants:
            return None
        nodes, tensors = [start], [self.constants[i] for i in start.input[1:] if i in self.constants]
        result = start.output[0]
        for operation in self.chain(node):
            for name in operation.input:
                if name and name != result:
                    constant = self.constant(name)
                    if constant is None:
                        return None
                    nodes += constant[0]
                    tensors += constant[1]
            nodes.append(operation)
            result = operation.output[0]
        if nodes[-1].op_type != "QuantizeLinear":
            return None
        return nodes, tensors, start.input[0], result

    def chain(self, node):
        """The node and what alone is done with its result, up to where that is quantized."""
        yield node
        while node.output[0] not in self.outputs and len(self.users.get(node.output[0], [])) == 1:
            node = self.users[node.output[0]][0]
            if node.op_type not in (*BETWEEN, "QuantizeLinear"):
                return
            yield node
            if node.op_type == "QuantizeLinear":
                return


def apart(model):
    """A model in which every layer stands alone; for each the name of its codes in the whole, of its input and its output."""
    finder = Finder(model.graph)
    nodes, tensors, inputs, outputs, places = [], [], [], [], []
    for node in model.graph.node:
        found = finder.layer(node) if node.op_type in LAYERS else None
        if found is None:
            continue
        own, constants, start, end = found
        prefix = f"layer{len(places)}_"
        for part in own:
            copy = onnx.NodeProto()
            copy.CopyFrom(part)
            copy.name = prefix + part.name
            copy.input[:] = [prefix + name if name else "" for name in part.input]
            copy.output[:] = [prefix + name for name in part.output]
            nodes.append(copy)
        for tensor in {t.name: t for t in constants}.values():
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = prefix + tensor.name
            tensors.append(copy)
        zeros = {t.name: t.data_type for t in constants}
        types = [zeros.get(part.input[2], TensorProto.UINT8) if len(part.input) > 2 else TensorProto.UINT8 for part in (own[0], own[-1])]
        inputs.append((prefix + start, types[0]))
        outputs.append((prefix + end, types[1]))
        places.append((start, prefix + start, prefix + end, node.name))
    return (nodes, tensors, inputs, outputs), places


def differences(anychip, path, arrays, samples=1):
    """One entry a layer: its name, how many codes it gives, how many are not ONNX Runtime's, and the largest step between."""
    whole = onnx.load(path)
    (nodes, tensors, inputs, outputs), places = apart(whole)
    if not places:
        return []
    shown = onnx.ModelProto()
    shown.CopyFrom(whole)
    for name in dict.fromkeys(start for start, *_ in places):
        if name not in {v.name for v in shown.graph.output}:
            shown.graph.output.append(onnx.ValueInfoProto(name=name))
    names = [v.name for v in shown.graph.output]
    given = {k: v[:samples] for k, v in arrays.items()}
    session = exact_session(shown)
    values = dict(zip(names, session.run(names, {i.name: given[i.name] for i in session.get_inputs()}), strict=True))
    codes = {own: values[start] for start, own, *_ in places}
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info(name, dtype, codes[name].shape) for name, dtype in inputs],
        [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    theirs = dict(zip([n for n, _ in outputs], exact_session(model).run(None, codes), strict=True))
    with tempfile.TemporaryDirectory() as scratch:
        file, data, results = (Path(scratch, n) for n in ("layers.onnx", "in.npz", "out.npz"))
        onnx.save(model, file)
        np.savez(data, **codes)
        command = [anychip, "run", file, "--input", data, "--output", results]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        with np.load(results) as found:
            ours = {name: found[name] for name in found.files}
    rows = []
    for _, _, end, name in places:
        apart_by = np.abs(ours[end].astype(np.int32) - theirs[end].astype(np.int32))
        row = {"layer": name, "codes": int(apart_by.size), "off": int((apart_by > 0).sum()), "largest": int(apart_by.max(initial=0))}
        rows.append(row)
    return rows


def summed(rows):
    """What to keep of all layers of a model."""
    codes = sum(r["codes"] for r in rows)
    off = sum(r["off"] for r in rows)
    worst = max((r["off"] / max(r["codes"], 1) for r in rows), default=0.0)
    return {
        "layers": len(rows),
        "codes": codes,
        "off": off,
        "worst_layer_share": worst,
        "largest_step": max((r["largest"] for r in rows), default=0),
    }


def main():
    anychip, model, data, *rest = sys.argv[1:]
    with np.load(data) as file:
        arrays = {k: file[k] for k in file.files if k != "labels"}
    rows = differences(anychip, model, arrays, int(rest[0]) if rest else 1)
    for row in rows:
        print(f"{row['layer']:40} {row['off']:8} of {row['codes']:9}  largest {row['largest']}")
    print(json.dumps(summed(rows)))


if __name__ == "__main__":
    main()

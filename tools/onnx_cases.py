"""Write the backend test cases of the `onnx` package to a folder, in the standard's own file layout.

The wheel of onnx 1.23 generates its node cases in Python instead of shipping them, and the nine `light`
nets come without inputs. This script writes all of them the same way, so that a runner needs no Python:

    OUT/index.json
    OUT/<group>/<case>/model.onnx
    OUT/<group>/<case>/data_set_<k>/input_<i>.pb, output_<i>.pb

Groups: node, simple, pytorch-converted, light. A `.pb` file is a TensorProto, SequenceProto or
OptionalProto, by the type of the graph input or output it belongs to (`index.json` says which).

Usage: python tools/onnx_cases.py OUT
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.model import collect_testcases
from onnx.backend.test.loader import load_model_tests

# Every element type that is not a string. Resolved by name: an older onnx lacks the newest.
NOT_NUMERIC = {TensorProto.UNDEFINED, TensorProto.STRING}

# The standard's runner compares bfloat16 at two units in the last place, whatever the case says.
BFLOAT16_RTOL = 2.0**-6


def external_inputs(model):
    """The graph inputs a caller gives: those without an initializer of the same name."""
    initialized = {i.name for i in model.graph.initializer}
    initialized |= {i.values.name for i in model.graph.sparse_initializer}
    return [i for i in model.graph.input if i.name not in initialized]


def kind_of(type_proto):
    """`tensor`, `sequence`, `optional`, `map`, `sparse_tensor` or `none`."""
    return (type_proto.WhichOneof("value") or "none").removesuffix("_type")


def describe(value):
    """Name, kind and, for tensors, element type of a graph input or output."""
    kind = kind_of(value.type)
    entry = {"name": value.name, "kind": kind}
    if kind == "tensor":
        entry["dtype"] = TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    return entry


def is_numeric(value):
    return kind_of(value.type) == "tensor" and value.type.tensor_type.elem_type not in NOT_NUMERIC


def graph_attributes(node):
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            yield from attribute.graphs


def operators_of(nodes, found):
    """Add `domain::Operator` (the default domain unprefixed) of all nodes, sub-graphs included."""
    for node in nodes:
        domain = "" if node.domain in ("", "ai.onnx") else node.domain + "::"
        found.add(domain + node.op_type)
        for graph in graph_attributes(node):
            operators_of(graph.node, found)


def to_proto(item, value):
    """The proto that holds one input or output, under the name the graph gives it."""
    if isinstance(item, (onnx.TensorProto, onnx.SequenceProto, onnx.OptionalProto)):
        return item
    kind = kind_of(value.type)
    if kind == "sequence":
        return numpy_helper.from_list(item, value.name)
    if kind == "optional":
        return numpy_helper.from_optional(item, value.name)
    if kind == "map":
        return numpy_helper.from_dict(item, value.name)
    if kind != "tensor":
        raise ValueError(f"{value.name}: no file form for a value of kind {kind}")
    declared = value.type.tensor_type.elem_type
    array = np.asarray(item)
    proto = numpy_helper.from_array(array, value.name)
    if proto.data_type != declared and declared != TensorProto.UNDEFINED:
        raise ValueError(
            f"{value.name}: declared {TensorProto.DataType.Name(declared)}, data is "
            f"{TensorProto.DataType.Name(proto.data_type)}"
        )
    return proto


def write_data_set(folder, values, items, prefix):
    names = []
    for number, (value, item) in enumerate(zip(values, items, strict=False)):
        name = f"{prefix}_{number}.pb"
        (folder / name).write_bytes(to_proto(item, value).SerializeToString())
        names.append(name)
    return names


def entry_of(group, name, model, rtol, atol):
    operators = set()
    operators_of(model.graph.node, operators)
    for function in model.functions:
        operators_of(function.node, operators)
    opsets = {o.domain or "ai.onnx": o.version for o in model.opset_import}
    inputs = external_inputs(model)
    return {
        "name": name,
        "group": group,
        "path": f"{group}/{name}",
        "opset": opsets.get("ai.onnx"),
        "opsets": opsets,
        "domains": sorted({o.rsplit("::", 1)[0] if "::" in o else "ai.onnx" for o in operators}),
        "operators": sorted(operators),
        "inputs": [describe(v) for v in inputs],
        "outputs": [describe(v) for v in model.graph.output],
        "numeric": all(is_numeric(v) for v in [*inputs, *model.graph.output]),
        "rtol": rtol,
        "atol": atol,
        "bfloat16_rtol": max(rtol, BFLOAT16_RTOL),
        "data_sets": [],
    }


def write_case(out, group, case, model, data_sets):
    """One generated case: a model and its data sets, given as Python values."""
    entry = entry_of(group, case.name, model, case.rtol, case.atol)
    folder = out / entry["path"]
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    for number, (inputs, outputs) in enumerate(data_sets):
        data = folder / f"data_set_{number}"
        data.mkdir()
        if len(inputs) > len(model.graph.input) or len(outputs) > len(model.graph.output):
            raise ValueError(f"{case.name}: more values than the graph declares")
        entry["data_sets"].append(
            {
                "folder": data.name,
                "inputs": write_data_set(data, model.graph.input, inputs, "input"),
                "outputs": write_data_set(data, model.graph.output, outputs, "output"),
            }
        )
    return entry


def copy_case(out, group, case):
    """One case that the wheel ships as files."""
    source = Path(case.model_dir)
    model = onnx.load(source / "model.onnx")
    entry = entry_of(group, case.name, model, case.rtol, case.atol)
    folder = out / entry["path"]
    folder.mkdir(parents=True)
    shutil.copy(source / "model.onnx", folder / "model.onnx")
    for number, data in enumerate(sorted(source.glob("test_data_set_*"))):
        target = folder / f"data_set_{number}"
        shutil.copytree(data, target)
        entry["data_sets"].append(
            {
                "folder": target.name,
                "inputs": numbered(target, "input"),
                "outputs": numbered(target, "output"),
            }
        )
    return entry


def numbered(folder, prefix):
    return [f"{prefix}_{i}.pb" for i in range(len(list(folder.glob(f"{prefix}_*.pb"))))]


def ramp(value):
    """The input the standard's runner feeds to a light net: 0, 1/n, 2/n … in the declared shape."""
    tensor = value.type.tensor_type
    if tensor.elem_type != TensorProto.FLOAT:
        raise ValueError(f"{value.name}: the light nets take float32 only")
    shape = [d.dim_value if d.HasField("dim_value") else 1 for d in tensor.shape.dim]
    count = int(np.prod(shape))
    return (np.arange(count).reshape(shape) / count).astype(np.float32)


def write_light(out, case):
    """A light net: its model and expected outputs come from the wheel, its inputs are a ramp."""
    package = Path(onnx.__file__).parent.parent
    source = package / case.url
    model = onnx.load(source)
    entry = entry_of("light", case.name, model, case.rtol, case.atol)
    folder = out / entry["path"]
    data = folder / "data_set_0"
    data.mkdir(parents=True)
    shutil.copy(source, folder / "model.onnx")
    inputs = external_inputs(model)
    names = write_data_set(data, inputs, [ramp(v) for v in inputs], "input")
    outputs = []
    for number in range(len(model.graph.output)):
        expected = source.with_name(f"{source.stem}_output_{number}.pb")
        outputs.append(f"output_{number}.pb")
        shutil.copy(expected, data / outputs[-1])
    entry["data_sets"].append({"folder": data.name, "inputs": names, "outputs": outputs})
    return entry


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    # Written beside the final place and moved, so that an interrupted run leaves no half index.
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    entries = []
    for case in load_model_tests(kind="node"):
        entries.append(write_case(partial, "node", case, case.model, case.data_sets))
    for group in ("simple", "pytorch-converted"):
        for case in load_model_tests(kind=group):
            entries.append(copy_case(partial, group, case))
    for case in collect_testcases():
        if case.url and "/light/" in case.url:
            entries.append(write_light(partial, case))

    entries.sort(key=lambda e: (e["group"], e["name"]))
    paths = [e["path"] for e in entries]
    if len(set(paths)) != len(paths):
        sys.exit("two cases share a name")
    index = {"onnx": onnx.__version__, "cases": entries}
    (partial / "index.json").write_text(json.dumps(index, indent=1) + "\n")
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    for group in ("node", "simple", "pytorch-converted", "light"):
        of_group = [e for e in entries if e["group"] == group]
        numeric = sum(e["numeric"] for e in of_group)
        print(f"{group}: {len(of_group)} cases, {numeric} on numeric tensors only")


if __name__ == "__main__":
    main()

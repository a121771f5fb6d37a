"""What the zoo's exporters share: the folder of one model, its inputs, and ONNX Runtime's answers.

A model's folder:

    model.onnx      as the exporter wrote it, symbolic `batch` where it can
    fixed.onnx      the same with batch 1 written into the inputs (only when model.onnx is symbolic)
    weights.bin     the weights of both, where they are too large to keep twice
    inputs-N.npz    inputs at batch N (1, and 2 when symbolic), keyed by input name
    outputs-N.npz   what ONNX Runtime's CPU provider answers, default settings, keyed by output name
    meta.json       exporter, opset, parameters, symbolic or why not, and the hash that tells if it is current
"""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

# Above this, weights are kept once, outside both files.
EXTERNAL_ABOVE = 150_000_000


def hash_of(*paths):
    """One hash of the files that decide what an export gives."""
    digest = hashlib.sha256()
    for path in sorted(Path(p) for p in paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_current(folder, digest):
    try:
        return json.loads((folder / "meta.json").read_text())["hash"] == digest
    except (OSError, ValueError, KeyError):
        return False


def name_batch(model):
    """Call the symbolic first dimension of every input and output `batch`: tf2onnx names them `unk__…`."""
    initialized = {i.name for i in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in initialized]
    renamed = set()
    for value in [*inputs, *model.graph.output]:
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            renamed.add(first.dim_param)
            first.dim_param = "batch"
    for value in model.graph.value_info:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in renamed and dim.dim_param:
                dim.dim_param = "batch"


def fix_batch(model):
    """Write batch 1 into the inputs, and drop the shapes that were inferred for any batch."""
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == "batch":
                dim.dim_value = 1
    del model.graph.value_info[:]


def save(model, path, external):
    if external:
        onnx.save(
            model,
            path,
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location="weights.bin",
            size_threshold=1024,
        )
    else:
        onnx.save(model, path)


def finish(folder, model, make_inputs, meta, digest):
    """Write one model's folder, and check both files give ONNX Runtime the same answer."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if meta["symbolic_batch"]:
        name_batch(model)
    external = sum(len(i.raw_data) for i in model.graph.initializer) > EXTERNAL_ABOVE
    save(model, folder / "model.onnx", external)
    if meta["symbolic_batch"]:
        # With external data the tensors now point at weights.bin, so this file shares it.
        fix_batch(model)
        onnx.save(model, folder / "fixed.onnx")
    del model

    batches = [1, 2] if meta["symbolic_batch"] else [1]
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    scale = {}
    for batch in batches:
        inputs = make_inputs(batch)
        outputs = dict(zip(names, session.run(names, inputs), strict=True))
        for name, value in outputs.items():
            if value.dtype.kind == "f":
                if not np.isfinite(value).all():
                    raise ValueError(f"{folder.name}: {name} is not finite")
                scale[name] = float(np.abs(value).max(initial=0.0))
        if batch == 1 and meta["symbolic_batch"]:
            fixed = onnxruntime.InferenceSession(folder / "fixed.onnx", providers=["CPUExecutionProvider"])
            for name, value in zip(names, fixed.run(names, inputs), strict=True):
                np.testing.assert_allclose(value, outputs[name], rtol=1e-3, atol=1e-4)
        np.savez(folder / f"inputs-{batch}.npz", **inputs)
        np.savez(folder / f"outputs-{batch}.npz", **outputs)
    meta = {
        **meta,
        "batches": batches,
        "inputs": {i.name: [i.type, i.shape] for i in session.get_inputs()},
        "outputs": {o.name: [o.type, o.shape] for o in session.get_outputs()},
        "largest_output": scale,
        "onnxruntime": onnxruntime.__version__,
        "hash": digest,
    }
    (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")

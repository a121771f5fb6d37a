"""Quantize built-in architectures to int8 with ONNX Runtime's own tool: the files that `peers.py` times in int8.

Each is exported by `anychip optimize zoo:NAME`, calibrated on two batches of random images and written as QDQ: u8
activations, i8 weights with a scale a channel. What ONNX Runtime answers on the quantized file is kept beside it.

Usage: python tools/peer_quantize.py ANYCHIP FOLDER NAME...

writes FOLDER/NAME/{fixed.onnx, inputs-1.npz, outputs-1.npz}; what is there already is kept.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

SEED = 7
BATCHES = 2


class Images(CalibrationDataReader):
    def __init__(self, inputs):
        self.left = iter(inputs)

    def get_next(self):
        return next(self.left, None)


def given(model, random):
    """Random contents for the inputs of a model of fixed shapes."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return {i.name: random.standard_normal(i.shape).astype(np.float32) for i in session.get_inputs()}


def with_fixed_batch(path):
    """Writes a batch of 1 into a file that names it."""
    model = onnx.load(path)
    for value in [*model.graph.input, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = 1
    onnx.save(model, path)


def quantized(anychip, folder, name):
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch, "plain.onnx")
        subprocess.run([anychip, "optimize", f"zoo:{name}", "-o", plain], check=True, stdout=subprocess.DEVNULL)
        with_fixed_batch(plain)
        random = np.random.default_rng(SEED)
        inputs = [given(plain, random) for _ in range(BATCHES)]
        folder.mkdir(parents=True, exist_ok=True)
        model = Path(scratch, "fixed.onnx")
        quantize_static(
            plain,
            model,
            Images(inputs),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        np.savez(folder / "inputs-1.npz", **inputs[0])
        np.savez(folder / "outputs-1.npz", **dict(zip(names, session.run(names, inputs[0]), strict=True)))
        (folder / "fixed.onnx").write_bytes(model.read_bytes())


def main():
    anychip, folder, *names = sys.argv[1:]
    for name in names:
        if not Path(folder, name, "fixed.onnx").exists():
            print(f"quantizing {name}", file=sys.stderr)
            quantized(anychip, Path(folder, name), name)


if __name__ == "__main__":
    main()

"""Writes the files of crates/anychip/tests/data/quantized: models/digits-*.onnx as ONNX Runtime's own tools quantize them.

QDQ and operators such as QLinearConv (static), DynamicQuantizeLinear with MatMulInteger (dynamic), and MatMulNBits (4 bits).

Usage: python tools/quantized_files.py ANYCHIP [FOLDER]      (seconds; tools/requirements-quantize.txt)
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

ROOT = Path(__file__).resolve().parents[1]
FOLDER = "crates/anychip/tests/data/quantized"
SAMPLES = 64


class Samples(CalibrationDataReader):
    def __init__(self, name):
        archive = np.load(ROOT / f"models/{name}.npz")
        key = onnx.load(ROOT / f"models/{name}.onnx").graph.input[0].name
        self.batches = iter([{key: archive[key][:SAMPLES]}])

    def get_next(self):
        return next(self.batches, None)


def main(anychip, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        prepared = {}
        for name in ("digits-cnn", "digits-transformer"):
            prepared[name] = str(Path(scratch, f"{name}.onnx"))
            # The tool knows no bias that is computed, nor normalization after a layer: our passes make constants of both.
            command = [anychip, "optimize", ROOT / f"models/{name}.onnx", "-o", prepared[name]]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        for out, form, per_channel in [
            ("digits-cnn-qdq", QuantFormat.QDQ, True),
            ("digits-cnn-operators", QuantFormat.QOperator, False),
        ]:
            quantize_static(
                prepared["digits-cnn"],
                str(folder / f"{out}.onnx"),
                Samples("digits-cnn"),
                quant_format=form,
                per_channel=per_channel,
                activation_type=QuantType.QInt8 if per_channel else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        quantize_dynamic(
            prepared["digits-transformer"], str(folder / "digits-transformer-dynamic.onnx"), weight_type=QuantType.QInt8
        )
        blocks = MatMulNBitsQuantizer(onnx.load(prepared["digits-transformer"]), block_size=16, is_symmetric=False)
        blocks.process()
        onnx.save(blocks.model.model, folder / "digits-transformer-blocks.onnx")
    for file in sorted(folder.glob("*.onnx")):
        kinds = sorted({node.op_type for node in onnx.load(file).graph.node})
        print(f"{file.name}  {file.stat().st_size} bytes  {' '.join(kinds)}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / FOLDER)

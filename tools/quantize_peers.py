"""Quantize models to int8 with anychip, ONNX Runtime's own tool and NNCF on the same data, and print one table.

Every file, whoever made it, is run by ONNX Runtime on the same held-out inputs: the ratio of signal to noise of its
outputs against the float model's, and the accuracy where there are labels. Its graph optimizations are off, so that all are
judged by what their files say: on processors without VNNI its fused kernels saturate. ONNX Runtime's tool runs twice, with one
scale a weight (its default) and with one a channel; the better counts. Calibration data are the same for all. Of our
files also how often the layers, one by one, give another code than ONNX Runtime (quantize_steps.py).

Usage: python tools/quantize_peers.py --anychip BINARY --scratch FOLDER --out FILE.json CASE ...
A case is MODEL.onnx,CALIBRATE.npz,TEST.npz, zoo:NAME, or int4:NAME for the weights alone of a built-in architecture, with
rounding to nearest, GPTQ and AWQ (tools/requirements-quantize.txt; `cargo xtask peers quantize`).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from quantize_steps import differences, exact_session, summed

SEED = 0


class Reader(CalibrationDataReader):
    def __init__(self, arrays, count):
        self.samples = iter([{k: v[i : i + 1] for k, v in arrays.items()} for i in range(count)])

    def get_next(self):
        return next(self.samples, None)


def load(path):
    with np.load(path) as data:
        arrays = {k: data[k] for k in data.files}
    return arrays, arrays.pop("labels", None)


def images(count, size, seed):
    """Noise smooth enough that pooling does not cancel it, as tools/zoo.py makes it."""
    random = np.random.default_rng(seed)
    coarse = random.standard_normal((count, 3, size // 8, size // 8), dtype=np.float32)
    fine = random.standard_normal((count, 3, size, size), dtype=np.float32)
    return coarse.repeat(8, axis=2).repeat(8, axis=3) + 0.3 * fine


def made_up(model, count, seed):
    """Inputs for a built-in architecture: images, or token ids."""
    arrays = {}
    for value in onnx.load(model, load_external_data=False).graph.input:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            arrays[value.name] = images(count, dims[-1] or 224, seed)
        else:
            random = np.random.default_rng(seed)
            length = [d or 32 for d in dims[1:]]
            arrays[value.name] = random.integers(1, 1000, (count, *length), dtype=np.int64)
    return arrays


def run(path, arrays, count):
    session = exact_session(path)
    names = [i.name for i in session.get_inputs()]
    rows = [session.run(None, {n: arrays[n][i : i + 1] for n in names}) for i in range(count)]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def read(anychip, path, arrays):
    """What anychip gives on a file; the outputs in their order."""
    with tempfile.TemporaryDirectory() as scratch:
        data, results = Path(scratch, "in.npz"), Path(scratch, "out.npz")
        np.savez(data, **arrays)
        command = [anychip, "run", path, "--input", data, "--output", results]
        subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
        with np.load(results) as found:
            return [found[v.name] for v in onnx.load(path, load_external_data=False).graph.output]


def decibels(exact, found):
    signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in exact)
    noise = sum(float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum()) for a, b in zip(exact, found, strict=True))
    # JSON has no infinity: what is equal is far above what floats can tell apart.
    return 300.0 if noise == 0 else float(10 * np.log10(signal / noise))


def ours(arguments, model, calibrate, out):
    command = [arguments.anychip, "optimize", model, "-o", out, "--quantize", "int8", "--calibrate", calibrate]
    subprocess.run([*map(str, command), *arguments.flags.split()], check=True, stdout=subprocess.DEVNULL)


def prepare(model, out):
    """The model as ONNX Runtime's own preparation leaves it: with shapes, and normalization folded into layers."""
    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    return prepared


def onnxruntime_static(per_channel, form=QuantFormat.QDQ):
    def make(arguments, model, calibrate, out):
        arrays, _ = load(calibrate)
        prepared = prepare(model, out)
        quantize_static(
            str(prepared),
            str(out),
            Reader(arrays, len(next(iter(arrays.values())))),
            quant_format=form,
            per_channel=per_channel,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )

    return make


def nncf_int8(arguments, model, calibrate, out):
    """NNCF on the model as it is; on what our passes leave of it where NNCF cannot read that (digits-cnn)."""
    import nncf

    arrays, _ = load(calibrate)
    count = len(next(iter(arrays.values())))
    optimized = out.with_suffix(".optimized.onnx")
    command = [arguments.anychip, "optimize", model, "-o", optimized]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    for given in (model, optimized):
        data = nncf.Dataset([{k: v[i : i + 1] for k, v in arrays.items()} for i in range(count)])
        try:
            quantized = nncf.quantize(onnx.load(given), data, subset_size=count)
        except Exception:  # noqa: BLE001 whatever a tool raises for a model it cannot take
            if given is optimized:
                raise
            continue
        onnx.save(quantized, out)
        return


def weights_alone(algorithm):
    def make(arguments, model, calibrate, out):
        command = [arguments.anychip, "optimize", model, "-o", out, "--quantize", "int4-weights", "--algorithm", algorithm]
        subprocess.run([*map(str, command), "--calibrate", str(calibrate)], check=True, stdout=subprocess.DEVNULL)

    return make


WAYS = {
    "anychip": ours,
    "onnxruntime": onnxruntime_static(False),
    "onnxruntime-per-channel": onnxruntime_static(True),
    "onnxruntime-operators": onnxruntime_static(False, QuantFormat.QOperator),
    "nncf": nncf_int8,
    "int4-nearest": weights_alone("rtn"),
    "int4-gptq": weights_alone("gptq"),
    "int4-awq": weights_alone("awq"),
}

# Random weights have no accuracy, and NNCF takes minutes for a large network.
UNTRAINED = ["anychip", "onnxruntime", "onnxruntime-per-channel"]
INT8 = [*UNTRAINED, "onnxruntime-operators", "nncf"]
WEIGHTS = ["int4-nearest", "int4-gptq", "int4-awq"]


def case(arguments, text):
    """The float model, calibration file and test file of a case."""
    kind, _, built_in = text.partition(":")
    if kind not in ("zoo", "int4"):
        model, calibrate, test = (Path(p) for p in text.split(","))
        return model.stem, model, calibrate, test
    name = built_in.partition(",")[0]
    model = arguments.scratch / f"{name}.onnx"
    command = [arguments.anychip, "optimize", f"zoo:{built_in}", "-o", model]
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    files = []
    for what, count, seed in [("calibrate", arguments.samples, SEED), ("test", arguments.samples // 2, SEED + 1)]:
        files.append(arguments.scratch / f"{name}-{what}.npz")
        np.savez(files[-1], **made_up(model, count, seed))
    return name, model, *files


def measure(arguments, text):
    name, model, calibrate, test = case(arguments, text)
    arrays, labels = load(test)
    count = len(next(iter(arrays.values())))
    exact = run(model, arrays, count)
    row = {"model": name, "samples": count, "float_bytes": model.stat().st_size, "ways": {}}
    if labels is not None:
        row["float_right"] = int((exact[0].reshape(count, -1).argmax(1) == labels).sum())
    kinds = {"zoo": UNTRAINED, "int4": WEIGHTS}
    for way in arguments.ways.split(",") if arguments.ways else kinds.get(text.partition(":")[0], INT8):
        out = arguments.scratch / f"{name}-{way}.onnx"
        began = time.monotonic()
        try:
            WAYS[way](arguments, model, calibrate, out)
            found = run(out, arrays, count)
        except Exception as error:  # noqa: BLE001 a peer that cannot is a row of the table
            row["ways"][way] = {"failed": (str(error) or type(error).__name__).splitlines()[0][:200]}
            continue
        cell = {"snr_db": decibels(exact, found), "bytes": out.stat().st_size, "seconds": time.monotonic() - began}
        if way.startswith(("onnxruntime", "nncf")):
            # The same file read and run by us.
            cell["read_snr_db"] = decibels(found, read(arguments.anychip, out, arrays))
        if way == "anychip":
            cell["steps"] = summed(differences(arguments.anychip, out, arrays))
        if labels is not None:
            cell["right"] = int((found[0].reshape(count, -1).argmax(1) == labels).sum())
        row["ways"][way] = cell
    return row


def show(row):
    text = f"{row['model']:24}"
    for way, cell in row["ways"].items():
        if "failed" in cell:
            text += f"  {way} failed: {cell['failed'][:40]}"
            continue
        text += f"  {way} {cell['snr_db']:6.1f} dB"
        if "right" in cell:
            text += f" {cell['right']}/{row['samples']}"
        if "read_snr_db" in cell:
            text += f" (read by us {cell['read_snr_db']:.0f} dB)"
        if "steps" in cell:
            text += f" ({cell['steps']['off']} of {cell['steps']['codes']} codes off by {cell['steps']['largest_step']})"
    if "float_right" in row:
        text += f"  float {row['float_right']}/{row['samples']}"
    print(text, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--anychip", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=16, help="calibration samples of zoo models")
    parser.add_argument("--ways", help="with commas: " + ", ".join(WAYS))
    parser.add_argument("--flags", default="", help="further flags of anychip optimize")
    parser.add_argument("cases", nargs="+")
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    rows = []
    for text in arguments.cases:
        rows.append(measure(arguments, text))
        show(rows[-1])
        # What was measured so far is kept when a later case fails.
        arguments.out.write_text(json.dumps({"versions": versions(), "rows": rows}, indent=1) + "\n")


def versions():
    packages = {name: metadata.version(name) for name in ("onnx", "onnxruntime", "nncf")}
    return {**packages, "python": sys.version.split()[0]}


if __name__ == "__main__":
    main()

"""Where the time of a model goes, by kind of operator, here and in ONNX Runtime and OpenVINO, with each one's own profiler.

Layers do not match one by one, as each runtime fuses differently; kinds do: what a runtime fuses into a convolution is
counted there. Profilers cost time of their own, so only shares and large differences mean something. Rounds of fresh
processes in turns; the figure of a kind is the median of rounds.

Usage: python tools/peer_layers.py --binary ANYCHIP --openvino PYTHON --rounds 3 --threads 1 MODEL.onnx INPUTS.npz
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# The first that a name contains, lower case, decides; in this order.
KINDS = [
    ("attention", ("attention", "scaleddotproduct")),
    ("recurrent", ("lstm", "gru", "rnn")),
    ("pooling", ("pool",)),
    ("convolution", ("conv",)),
    ("matrix product", ("dot-general", "matmul", "gemm", "fullyconnected", "product")),
    ("normalization", ("norm", "mvn")),
    ("softmax", ("softmax",)),
    ("movement", ("transpose", "reshape", "concat", "slice", "split", "gather", "take", "reorder", "pad", "squeeze",
                  "permute", "broadcast", "expand", "blocks", "copy", "view", "cast", "convert")),
    ("reduction", ("reduc", "mean", "argmax", "topk", "top-k")),
    ("elementwise", ("",)),
]  # fmt: skip


def kind_of(name):
    lower = name.lower()
    return next(kind for kind, words in KINDS if any(word in lower for word in words))


def total(pairs):
    """Seconds by kind of (name, seconds)."""
    sums = {}
    for name, seconds in pairs:
        sums[kind_of(name)] = sums.get(kind_of(name), 0.0) + seconds
    return sums


def ours(binary, model, inputs, threads):
    command = [binary, "bench", model, "--input", inputs, "--threads", str(threads), "--layers", "--json"]
    printed = subprocess.run([*command, "--min-duration", "0.5s"], check=True, capture_output=True, text=True).stdout
    layers = json.loads(printed.splitlines()[-1])["layers"]
    # What a kernel does first names it: `dot-general+add` is a product.
    return total((layer["kernel"], layer["seconds"]) for layer in layers)


def onnxruntime(model, inputs, threads):
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        taken = {i.name for i in session.get_inputs()}
        given = {name: value for name, value in np.load(inputs).items() if name in taken}
        runs = 10
        for _ in range(runs):
            session.run(None, given)
        events = json.loads(Path(session.end_profiling()).read_text())
    times = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault((event["name"], event["args"]["op_name"]), []).append(event["dur"] * 1e-6)
    return total((op, statistics.median(seconds)) for (_, op), seconds in times.items())


def openvino(model, inputs, threads):
    import numpy as np
    import openvino as ov

    core = ov.Core()
    network = core.read_model(model)
    given = {i.any_name: np.load(inputs)[i.any_name] for i in network.inputs}
    if network.is_dynamic():
        network.reshape({i.any_name: given[i.any_name].shape for i in network.inputs})
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERF_COUNT": True}
    settings["INFERENCE_PRECISION_HINT"] = "f32"
    request = core.compile_model(network, "CPU", settings).create_infer_request()
    times = {}
    for _ in range(10):
        request.infer(given)
        for layer in request.profiling_info:
            if layer.status == ov.ProfilingInfo.Status.EXECUTED:
                times.setdefault((layer.node_name, layer.node_type), []).append(layer.real_time.total_seconds())
    return total((op, statistics.median(seconds)) for (_, op), seconds in times.items())


def worker(name, python, arguments):
    """A peer in a process of its own, whose Python has it."""
    command = [python, __file__, "--worker", name, "--threads", str(arguments.threads), arguments.model, arguments.inputs]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()
        sys.exit(f"{name}: {last[-1] if last else done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def table(rounds):
    """Rows of text: a kind, and milliseconds of each runtime."""
    names = list(rounds)
    kinds = sorted({kind for sums in rounds.values() for one in sums for kind in one})
    figure = {n: {k: statistics.median(one.get(k, 0.0) for one in rounds[n]) for k in kinds} for n in names}
    kinds.sort(key=lambda k: -figure[names[0]][k])
    lines = [f"{'ms':<16}" + "".join(f"{name:>13}" for name in names)]
    for kind in kinds:
        lines.append(f"{kind:<16}" + "".join(f"{figure[name][kind] * 1e3:>13.2f}" for name in names))
    sums = {name: sum(figure[name].values()) for name in names}
    lines.append(f"{'all':<16}" + "".join(f"{sums[name] * 1e3:>13.2f}" for name in names))
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", help="the program of anychip")
    parser.add_argument("--openvino", help="a Python with OpenVINO; this one has ONNX Runtime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", choices=["onnxruntime", "openvino"], help=argparse.SUPPRESS)
    parser.add_argument("model")
    parser.add_argument("inputs")
    arguments = parser.parse_args()
    if arguments.worker:
        run = {"onnxruntime": onnxruntime, "openvino": openvino}[arguments.worker]
        print(json.dumps(run(arguments.model, arguments.inputs, arguments.threads)))
        return
    rounds = {"anychip": [], "onnxruntime": [], "openvino": []}
    for _ in range(arguments.rounds):
        rounds["anychip"].append(ours(arguments.binary, arguments.model, arguments.inputs, arguments.threads))
        rounds["onnxruntime"].append(worker("onnxruntime", sys.executable, arguments))
        rounds["openvino"].append(worker("openvino", arguments.openvino, arguments))
    print("\n".join(table(rounds)))


if __name__ == "__main__":
    main()

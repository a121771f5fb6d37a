"""Load one model in one runtime, run it once, check its answers, time it, and print the figures.

The worker of `peers.py` for runtimes with a Python interface (the Rust crates have theirs in `tools/peers/`) and of
`start.py` for ONNX Runtime. Prints one line of JSON:

    load_s        from the call that takes the file until it is ready; imports are not in it
    first_s       the first inference
    before_bytes  resident before the file is loaded: Python and the runtime's own libraries
    peak_bytes    the largest resident set of the process until the end of the first inference
    error         largest difference from OUTPUTS.npz over the largest value there, of the worst output
    median_s, best_s, runs   of what fits into SECONDS, after as much warming up (at most a second); null when 0
    version       of the runtime

Threads are those of one operator; operators run one after another. Every runtime is set up for latency.

Usage: python tools/peer_worker.py RUNTIME MODEL INPUTS.npz OUTPUTS.npz THREADS SECONDS

MODEL is an ONNX file; for pytorch and pytorch-compile a module pickled by `peer_torch.py`.
"""

import json
import statistics
import sys
import time
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np


def onnxruntime(threads):
    import onnxruntime

    def load(model, inputs, names):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A symbolic batch is as good as a written one: shapes are fixed before anything is optimized.
        batch = next(iter(inputs.values())).shape[0]
        options.add_free_dimension_override_by_name("batch", batch)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        taken = {i.name for i in session.get_inputs()}
        given = {name: value for name, value in inputs.items() if name in taken}
        return lambda: session.run(names, given)

    return version_of("onnxruntime"), load


def openvino(threads):
    import openvino

    def load(model, inputs, names):
        core = openvino.Core()
        network = core.read_model(model)
        if network.is_dynamic():
            network.reshape({i.any_name: inputs[i.any_name].shape for i in network.inputs})
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Where the chip has bfloat16, OpenVINO would use it unasked.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = core.compile_model(network, "CPU", settings).create_infer_request()
        given = {i.any_name: inputs[i.any_name] for i in network.inputs}

        def run():
            answers = request.infer(given, share_inputs=True, share_outputs=True)
            return [answers[name] for name in names]

        return run

    return version_of("openvino"), load


def pytorch(threads, *, compiled=False):
    import torch
    import zoo

    # The pickled modules are made of these; torch.load would import them within the time taken.
    _ = zoo.torchvision.models, zoo.transformers.BertModel, zoo.transformers.GPT2LMHeadModel
    # transformers asks this of CUDA unasked, and the stand-ins of cpu_torch.py crash on it.
    torch.cuda.is_current_stream_capturing = lambda: False
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)

    def load(model, inputs, _names):
        network = torch.load(model, weights_only=False)
        if compiled:
            from torch._inductor import config

            # Weights become constants: batch normalization folds into them and they are packed once.
            config.freezing = True
            network = torch.compile(network, dynamic=False)
        given = [torch.from_numpy(value) for value in inputs.values()]

        def run():
            with torch.no_grad():
                answers = network(*given)
            return [a.numpy() for a in (answers if isinstance(answers, tuple) else (answers,))]

        return run

    return torch.__version__, load


RUNTIMES = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "pytorch": pytorch,
    "pytorch-compile": lambda threads: pytorch(threads, compiled=True),
}


def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) * 1024


def worst_error(found, expected):
    """The largest difference over the largest value expected, of the worst output."""
    worst = 0.0
    for value, (name, wanted) in zip(found, expected.items(), strict=True):
        if value.shape != wanted.shape:
            raise ValueError(f"output `{name}` has shape {value.shape}, not {wanted.shape}")
        if wanted.size:
            largest = max(float(np.abs(wanted).max()), sys.float_info.min)
            worst = max(worst, float(np.abs(value - wanted.astype(np.float64)).max()) / largest)
            if not np.isfinite(value).all():
                raise ValueError(f"output `{name}` is not finite")
    return worst


def timed(run, seconds):
    """Latencies of what fits into the seconds, at least three."""
    taken = []
    warm = time.perf_counter() + min(1.0, seconds)
    while time.perf_counter() < warm:
        run()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 3:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def main():
    runtime, model, inputs, outputs, threads, seconds = sys.argv[1:]
    version, load = RUNTIMES[runtime](int(threads))
    inputs, expected = dict(np.load(inputs)), dict(np.load(outputs))
    before = resident("VmRSS")
    start = time.perf_counter()
    run = load(model, inputs, list(expected))
    loaded = time.perf_counter()
    answers = run()
    first = time.perf_counter()
    figures = {
        "version": version,
        "load_s": loaded - start,
        "first_s": first - loaded,
        "before_bytes": before,
        "peak_bytes": resident("VmHWM"),
        "error": worst_error(answers, expected),
        "median_s": None,
        "best_s": None,
        "runs": 0,
    }
    del answers
    if float(seconds) > 0:
        taken = timed(run, float(seconds))
        figures.update(median_s=statistics.median(taken), best_s=min(taken), runs=len(taken))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

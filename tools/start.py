"""Measure the time from process start to first result and the peak memory of `anychip run`, beside ONNX Runtime.

Both run one inference of the same file on the same input, in turns, in fresh processes. Three figures each:

    process_s    from starting the process until it ends, everything included
    session_s    ONNX Runtime only: from the call that loads the file until the first result, so without
                 Python and its imports; what a C program linked to it would take, less its own start
    peak_bytes   the largest resident set of the process, for ONNX Runtime until the first result. For it also
                 the resident set just before the file is loaded, so that Python's own share can be taken off

`weights_bytes` and `live_bytes` are what the computation needs at least: the initializers, and the most
bytes of activations alive at once when nodes run in the file's order (from inferred shapes; null when
those leave a size open). Their sum is the `least` that the ratios of memory are against.

The worker is that of `peers.py`, without timed runs; its answers are compared with OUTPUTS.npz.

Usage: python tools/start.py BINARY MODEL.onnx INPUTS.npz OUTPUTS.npz OUT.json [--runs 9]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import measure
import numpy as np
import onnx

WORKER = Path(__file__).with_name("peer_worker.py")


def bytes_of(value_type):
    """Bytes of a tensor of fixed shape; nothing where a dimension is not known."""
    tensor = value_type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if None in shape:
        return None
    return (
        int(np.prod(shape, dtype=np.int64)) * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    )


def live_bytes(model):
    """The most bytes of activations, inputs and outputs included, alive at once in the file's order of nodes.

    Nothing where shape inference leaves a size open.
    """
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    constant = {i.name for i in graph.initializer}
    declared = [v for v in [*graph.input, *graph.value_info, *graph.output] if v.name not in constant]
    sizes = {v.name: bytes_of(v.type) for v in declared}
    unknown = {o for n in graph.node for o in n.output if o and o not in sizes}
    if unknown or None in sizes.values():
        return None
    last = {}
    for position, node in enumerate(graph.node):
        for name in node.input:
            last[name] = position
    keep = {o.name for o in graph.output}
    live = {i.name: sizes[i.name] for i in graph.input if i.name not in constant}
    most = 0
    for position, node in enumerate(graph.node):
        live.update({o: sizes[o] for o in node.output if o in sizes})
        most = max(most, sum(live.values()))
        for name in {*node.input, *node.output}:
            if last.get(name, position) == position and name not in keep:
                live.pop(name, None)
    return most


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("binary", "model", "inputs", "outputs", "out"):
        parser.add_argument(name)
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()

    ours, peer = [], []
    with tempfile.TemporaryDirectory() as folder:
        outputs = str(Path(folder, "outputs.npz"))
        our_command = [
            arguments.binary,
            "run",
            arguments.model,
            "--input",
            arguments.inputs,
            "--output",
            outputs,
        ]
        threads = str(len(os.sched_getaffinity(0)))
        peer_command = [sys.executable, str(WORKER), "onnxruntime", arguments.model, arguments.inputs]
        peer_command += [arguments.outputs, threads, "0"]
        for number in range(arguments.runs + 1):
            our_figures, _ = measure.run(our_command)
            peer_figures, printed = measure.run(peer_command)
            found = json.loads(printed)
            # The peak until the first result: comparing the answers comes after it.
            peer_figures.update({key: found[key] for key in ("before_bytes", "peak_bytes")})
            peer_figures["session_s"] = found["load_s"] + found["first_s"]
            if number > 0:  # the first round warms the file cache for both
                ours.append(our_figures)
                peer.append(peer_figures)

    model = onnx.load(arguments.model)
    weights = sum(onnx.numpy_helper.to_array(i).nbytes for i in model.graph.initializer)
    live = live_bytes(model)
    least = weights + (live or 0)

    def median(rows, key):
        return statistics.median(r[key] for r in rows)

    our_time, our_peak = median(ours, "process_s"), median(ours, "peak_bytes")
    peer_time, peer_session = median(peer, "process_s"), median(peer, "session_s")
    peer_peak = median(peer, "peak_bytes")
    peer_added = statistics.median(r["peak_bytes"] - r["before_bytes"] for r in peer)
    summary = {
        "anychip_process_s": our_time,
        "onnxruntime_process_s": peer_time,
        "onnxruntime_session_s": peer_session,
        "time_over_onnxruntime_process": our_time / peer_time,
        "time_over_onnxruntime_session": our_time / peer_session,
        "anychip_peak_bytes": our_peak,
        "onnxruntime_peak_bytes": peer_peak,
        "onnxruntime_peak_less_python_bytes": peer_added,
        "weights_bytes": weights,
        "live_bytes": live,
        "peak_over_least": our_peak / least,
        "onnxruntime_less_python_over_least": peer_added / least,
    }
    record = {
        "what": "start to first result, one inference, fresh processes in turns; medians",
        "model": Path(arguments.model).parent.name,
        **measure.machine(),
        "runs": arguments.runs,
        "load_average": os.getloadavg()[0],
        "summary": summary,
        "anychip": ours,
        "onnxruntime": peer,
    }
    Path(arguments.out).write_text(json.dumps(record, indent=1) + "\n")
    megabyte = 2**20
    shown_live = (
        " (activations not known)" if live is None else f" + live activations {live / megabyte:.0f} MiB"
    )
    print(
        f"time    anychip {our_time:.3f} s; ONNX Runtime session {peer_session:.3f} s ({our_time / peer_session:.2f}x), "
        f"whole Python process {peer_time:.3f} s ({our_time / peer_time:.2f}x)"
    )
    print(
        f"memory  anychip {our_peak / megabyte:.0f} MiB; weights {weights / megabyte:.0f} MiB{shown_live} "
        f"({our_peak / least:.2f}x); ONNX Runtime {peer_peak / megabyte:.0f} MiB, "
        f"{peer_added / megabyte:.0f} MiB of it after Python ({peer_added / least:.2f}x)"
    )


if __name__ == "__main__":
    main()

"""Time models of the zoo in `anychip bench` and in ONNX Runtime, in turns, and print the ratios.

Each round starts a fresh process of each, gives both the same input and the same number of threads, lets them
warm up and takes the median latency of what fits into the given seconds; the figure is the median of rounds.
Rounds of the two alternate, so what else the machine does hits both.

Usage: python tools/peers.py BINARY OUT.json MODEL_FOLDER ... [--rounds 3] [--seconds 2] [--threads N]
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from start import processor

PEER = """
import json, statistics, sys, time
import numpy, onnxruntime
model, inputs, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
given = dict(numpy.load(inputs))
taken = []
warm = time.perf_counter() + min(1.0, seconds)
session.run(None, given)
while time.perf_counter() < warm:
    session.run(None, given)
end = time.perf_counter() + seconds
while time.perf_counter() < end or len(taken) < 3:
    start = time.perf_counter()
    session.run(None, given)
    taken.append(time.perf_counter() - start)
print(json.dumps(statistics.median(taken)))
"""


def last_json_line(command):
    """What the command printed last, read as JSON; a failure gives its diagnostics."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(next((line for line in lines if line.startswith("error")), lines[-1]))
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("binary")
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    threads, seconds = str(arguments.threads), str(arguments.seconds)

    rows, failed = [], []
    for folder in arguments.folders:
        model, inputs = str(folder / "model.onnx"), str(folder / "inputs-1.npz")
        our_command = [arguments.binary, "bench", model, "--input", inputs, "--json"]
        our_command += ["--threads", threads, "--seconds", seconds]
        peer_command = [sys.executable, "-c", PEER, model, inputs, threads, seconds]
        ours, peer = [], []
        try:
            for _ in range(arguments.rounds):
                ours.append(last_json_line(our_command)["latency_p50_s"]["value"])
                peer.append(last_json_line(peer_command))
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            failed.append(folder.name)
            print(f"{folder.name:<26} FAILED  {error}", flush=True)
            continue
        our_median, peer_median = statistics.median(ours), statistics.median(peer)
        ratio = our_median / peer_median
        rows.append({"model": folder.name, "anychip_s": ours, "onnxruntime_s": peer, "ratio": ratio})
        print(
            f"{folder.name:<26} anychip {1e3 * our_median:9.3f} ms   ONNX Runtime {1e3 * peer_median:9.3f} ms   "
            f"{ratio:5.2f}x",
            flush=True,
        )
    if rows:
        mean = math.exp(statistics.fmean(math.log(row["ratio"]) for row in rows))
        print(f"geometric mean of {len(rows)} ratios {mean:.2f}x, worst {max(r['ratio'] for r in rows):.2f}x")
        record = {
            "what": "median latency at batch 1, f32; fresh processes in turns",
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "processor": processor(),
            "threads": arguments.threads,
            "rounds": arguments.rounds,
            "seconds": arguments.seconds,
            "load_average": os.getloadavg()[0],
            "geometric_mean_of_ratios": mean,
            "models": rows,
        }
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

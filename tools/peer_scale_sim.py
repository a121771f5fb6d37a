"""Runs SCALE-Sim on a topology and prints a JSON line a layer, then one with the time and the memory it took.

Times are the processor's: it computes on one thread, and what else runs on the machine would be in the clock's.

usage: peer_scale_sim.py CONFIG TOPOLOGY (conv|gemm) SCRATCH
"""

import csv
import io
import json
import os
import resource
import sys
import time
from contextlib import redirect_stdout


def main():
    config, topology, kind, scratch = sys.argv[1:]
    os.makedirs(scratch, exist_ok=True)
    from scalesim.scale_sim import scalesim
    from scalesim.single_layer_sim import single_layer_sim

    # Traces are what it would write to disk; no figure of the report depends on them.
    single_layer_sim.save_traces = lambda self, top_path: None
    with open(topology) as file:
        names = [row[0].strip() for row in list(csv.reader(file))[1:] if row and row[0].strip()]
    layout = os.path.join(scratch, "layout.csv")
    with open(layout, "w") as file:
        file.write("Layer,\n")
    start, start_clock = time.process_time(), time.perf_counter()
    with redirect_stdout(io.StringIO()):
        peer = scalesim(
            save_disk_space=True,
            verbose=False,
            config=config,
            topology=topology,
            layout=layout,
            input_type_gemm=kind == "gemm",
        )
        peer.run_scale(top_path=scratch)
    seconds, clock_seconds = time.process_time() - start, time.perf_counter() - start_clock
    with open(os.path.join(scratch, "peer", "COMPUTE_REPORT.csv")) as file:
        rows = [[cell.strip() for cell in row] for row in list(csv.reader(file))[1:]]
    for name, row in zip(names, rows):
        print(json.dumps({
            "layer": name,
            "prefetched_cycles": int(row[1]),
            "cycles": int(row[2]),
            "stalls": int(row[3]),
            "utilization": float(row[4]),
            "mapping_efficiency": float(row[5]),
            "compute_utilization": float(row[6]),
        }))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "clock_seconds": clock_seconds, "peak_bytes": peak}))


main()

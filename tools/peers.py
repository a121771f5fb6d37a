"""Time models of the zoo in `anychip bench` and in its peers, in turns, and print the ratios.

Each round starts a fresh process of every runtime, one after another, and gives all the same input and the same
number of threads: what else the machine does hits all of them. A process loads the file, runs once (both timed),
compares its answers with those kept beside the model, warms up, and gives the median latency of what fits into
SECONDS. The figure of a runtime is the median of rounds on one thread and the best of rounds on more; the ratio is
ours over the fastest peer's. All get the file with its batch written in, or, at another batch, the symbolic one.

Load and first inference, and memory: ours are those of a whole `anychip run` (it reads the inputs and writes the
outputs within that time), and once more ("again") of one that finds the weights packed by an earlier one (`--cache`); a peer's count from the call that loads the file, less what was resident before it, so
without Python and its imports. Two figures of memory: the peak of the process until the first result, and the
largest resident set sampled during the timed runs (ours: the peak of all that `anychip bench` does up to their end,
as it measures the machine's own peaks after them).

`cargo xtask peers` calls this with the workers it could prepare and the reasons why others are missing.
"""

import argparse
import json
import os
import sys
import tempfile
import tomllib
from pathlib import Path

import measure
import numpy as np
import onnx
import peers_summary as summary
from peer_worker import RUNTIMES, worst_error

HERE = Path(__file__).parent
# Differences from ONNX Runtime's answers beyond this are no rounding: that program computes something else.
TOLERATED = 1e-2
# In int8 a step is 1/255 of the range, and roundings at the border between two codes go on through the network.
TOLERATED_INT8 = 0.25
TIMEOUT = 900.0
MIB = 2**20
# How runtimes are held to less than the machine has: the others take what they find.
WITHOUT_AVX512 = {
    "openvino": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "pytorch": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}


class Subject:
    """A model at one batch: the files all runtimes are given."""

    def __init__(self, name, arguments):
        self.name = name
        self.zoo_name, _, batch = name.partition("@")
        self.batch = int(batch or 1)
        folder = arguments.zoo / self.zoo_name
        fixed = folder / "fixed.onnx"
        self.model = fixed if self.batch == 1 and fixed.exists() else folder / "model.onnx"
        self.module = arguments.scratch / "torch" / f"{self.zoo_name}.pt"
        if self.batch == 1:
            self.inputs, self.outputs = folder / "inputs-1.npz", folder / "outputs-1.npz"
        else:
            self.inputs, self.outputs = (
                self.repeated(folder / f"{what}-2.npz", arguments.scratch / f"{name}-{what}.npz")
                for what in ("inputs", "outputs")
            )

    def repeated(self, source, path):
        """The two samples of an archive again and again, up to the batch."""
        with np.load(source) as arrays:
            np.savez(path, **{k: np.resize(v, (self.batch, *v.shape[1:])) for k, v in arrays.items()})
        return path

    def with_data_suffix(self, scratch):
        """The file with its weights called `weights.data`: rten opens no other names than `*.data` and the like."""
        weights = self.model.with_name("weights.bin")
        if not weights.exists():
            return self.model
        folder = scratch / "renamed" / self.zoo_name
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "weights.data"
        link.unlink(missing_ok=True)
        link.symlink_to(weights.resolve())
        model = onnx.load(self.model, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = link.name
        onnx.save(model, folder / self.model.name)
        return folder / self.model.name


class Bench:
    """How each runtime is started, and what came of it."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.workers = dict(pair.split("=", 1) for pair in arguments.worker)
        self.missing = dict(pair.split("=", 1) for pair in arguments.missing)
        self.versions = crate_versions()

    def environment(self, threads, name):
        count = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RTEN_NUM_THREADS"), str(threads))
        # What torch.compile has compiled is kept: a fresh process then only loads it.
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(self.arguments.scratch / "inductor")}
        masks = WITHOUT_AVX512.get(name, {}) if self.arguments.isa == "avx2" else {}
        return {**os.environ, **count, **cache, **masks, "PYTHONDONTWRITEBYTECODE": "1"}

    def measured(self, name, command, threads, **options):
        return measure.run(command, environment=self.environment(threads, name), timeout=TIMEOUT, **options)

    def peer(self, name, subject, threads):
        if name in self.missing:
            raise measure.Failed(self.missing[name])
        if name == "tract" and threads > 1:
            raise measure.Failed("runs on one thread only")
        if self.arguments.isa == "avx2" and name not in WITHOUT_AVX512:
            raise measure.Failed("cannot be held to AVX2")
        model = subject.model
        if name.startswith("pytorch"):
            model = subject.module
            if not model.exists():
                raise measure.Failed("there is no PyTorch module of this model")
        if name == "rten":
            model = subject.with_data_suffix(self.arguments.scratch)
        program = [self.workers[name]]
        if name in RUNTIMES:
            program += [str(HERE / "peer_worker.py"), name]
        seconds = self.arguments.seconds
        command = [*program, *map(str, (model, subject.inputs, subject.outputs, threads, seconds))]
        watched, printed = self.measured(name, command, threads, watch_last=seconds)
        figures = json.loads(printed.splitlines()[-1])
        if version := figures.pop("version", None):
            self.versions[name] = version
        before = figures.pop("before_bytes")
        resident = watched["resident_bytes"]
        return {
            **figures,
            "start_s": figures["load_s"] + figures["first_s"],
            "peak_bytes": figures["peak_bytes"] - before,
            "resident_bytes": None if resident is None else resident - before,
            "process_peak_bytes": watched["peak_bytes"],
        }

    def ours(self, subject, threads):
        binary, given = self.workers[summary.US], ["--input", str(subject.inputs), "--threads", str(threads)]
        if self.arguments.isa:
            given += ["--isa", self.arguments.isa]
        with tempfile.TemporaryDirectory() as folder:
            outputs = Path(folder, "outputs.npz")
            command = [binary, "run", str(subject.model), *given, "--output", str(outputs)]
            start, _ = self.measured(summary.US, command, threads)
            # The first of these packs the weights and keeps them, the second is a start as all later ones are.
            kept = [*command, "--cache", str(self.arguments.scratch / "cache")]
            self.measured(summary.US, kept, threads)
            again, _ = self.measured(summary.US, kept, threads)
            found = dict(np.load(outputs))
        expected = dict(np.load(subject.outputs))
        error = worst_error([found[name] for name in expected], expected)
        seconds = self.arguments.seconds
        command = [binary, "bench", str(subject.model), *given, "--batch", str(subject.batch), "--json"]
        _, printed = self.measured(summary.US, [*command, "--seconds", str(seconds)], threads)
        record = json.loads(printed.splitlines()[-1])
        return {
            "error": error,
            "median_s": record["latency_p50_s"]["value"],
            "start_s": start["process_s"],
            "start_again_s": again["process_s"],
            "peak_bytes": start["peak_bytes"],
            "resident_bytes": record["peak_memory_bytes"]["value"],
            "process_peak_bytes": start["peak_bytes"],
        }

    def round(self, name, subject, threads):
        figures = self.ours(subject, threads) if name == summary.US else self.peer(name, subject, threads)
        if not figures["error"] <= (TOLERATED_INT8 if self.arguments.dtype == "int8" else TOLERATED):
            raise measure.Failed(f"its answers differ by {figures['error']:.1e} of the largest value")
        return figures


def crate_versions():
    packages = tomllib.loads((HERE / "peers" / "Cargo.lock").read_text())["package"]
    wanted = {"rten": "rten", "tract-onnx": "tract"}
    return {wanted[p["name"]]: p["version"] for p in packages if p["name"] in wanted}


def progress(text):
    print(f"\r\x1b[K{text}" if sys.stderr.isatty() and text else text, end="", file=sys.stderr, flush=True)
    if not sys.stderr.isatty() and text:
        print(file=sys.stderr, flush=True)


def measure_model(bench, subject, threads, runtimes):
    """All rounds of one model: for each runtime a list of figures for each kind, or the reason why not."""
    rounds, reasons = {name: [] for name in runtimes}, {}
    for number in range(bench.arguments.rounds):
        for name in runtimes:
            if name in reasons:
                continue
            progress(f"{subject.name}, {threads} threads, round {number + 1}: {name}")
            try:
                rounds[name].append(bench.round(name, subject, threads))
            except (measure.Failed, OSError, ValueError, KeyError, IndexError, TypeError) as error:
                reasons[name] = str(error) or type(error).__name__
    progress("")
    found = {}
    for name in runtimes:
        if name in reasons:
            found[name] = {"why_not": reasons[name]}
        else:
            kinds = list(rounds[name][0])
            found[name] = {kind: [figures[kind] for figures in rounds[name]] for kind in kinds}
    return found


def figures_of(row, kind, threads):
    return {name: summary.of_rounds(found.get(kind, []), threads) for name, found in row["runtimes"].items()}


def print_start_and_memory(rows, runtimes, threads):
    """The two smaller tables: load and first inference, peak memory."""
    table = summary.Table(["load + first, ms", *runtimes, "/ORT", "/OpenVINO", "again", "/ORT", "/OpenVINO"])
    print(f"\n{table.head()}")
    for row in rows:
        figures = figures_of(row, "start_s", 1)  # medians on any number of threads
        again = {**figures, summary.US: figures_of(row, "start_again_s", 1)[summary.US]}
        cells = [summary.number(figures[name], 1e3, 0) for name in runtimes]
        for found in (figures, again):
            if found is again:
                cells.append(summary.number(again[summary.US], 1e3, 0))
            cells += [summary.number(summary.ratio(found, p), 1, 2) for p in ("onnxruntime", "openvino")]
        print(table.row([row["model"], *cells]))
    table = summary.Table(["peak (timed runs), MiB", *runtimes, "/ORT"])
    table.widths = [max(width, 11) for width in table.widths]
    print(f"\n{table.head()}")
    for row in rows:
        peak, resident = figures_of(row, "peak_bytes", 1), figures_of(row, "resident_bytes", 1)
        cells = [
            summary.ABSENT
            if peak[name] is None
            else f"{peak[name] / MIB:.0f} ({summary.number(resident[name], 1 / MIB, 0)})"
            for name in runtimes
        ]
        both = [summary.number(summary.ratio(f, "onnxruntime"), 1, 2) for f in (peak, resident)]
        print(table.row([row["model"], *cells, f"{both[0]} ({both[1]})"]))


def measure_all(bench, threads, runtimes):
    """Every model at one number of threads: prints a row as each is done."""
    load = os.getloadavg()[0]
    statistic = "median" if threads == 1 else "best"
    print(f"\n{threads} thread{'s' * (threads > 1)}, ms, {statistic} of {bench.arguments.rounds} rounds")
    table = summary.Table(["model", *runtimes, "ratio", "to", "of best"])
    print(table.head(), flush=True)
    rows, ratios, of_best = [], {}, {}
    for name in bench.arguments.models:
        row = {"model": name}
        try:
            row["runtimes"] = measure_model(bench, Subject(name, bench.arguments), threads, runtimes)
        except OSError as error:
            row["runtimes"] = {runtime: {"why_not": str(error)} for runtime in runtimes}
        figures = figures_of(row, "median_s", threads)
        row["fastest_peer"] = summary.fastest_peer(figures)
        row["ratio"] = summary.ratio(figures, row["fastest_peer"])
        rows.append(row)
        if row["ratio"] is not None:
            ratios[name] = row["ratio"]
            best = figures_of(row, "median_s", 2)
            of_best[name] = summary.ratio(best, summary.fastest_peer(best))
        row["ratio_of_best_rounds"] = of_best.get(name)
        print(table.row(summary.latency_row(name, figures, runtimes, of_best.get(name))), flush=True)
    print(summary.summary(ratios))
    print(f"of best rounds: {summary.summary(of_best)}")
    print_start_and_memory(rows, runtimes, threads)
    return {
        "threads": threads,
        "statistic": f"{statistic} of rounds",
        "load_average_before": load,
        "load_average_after": os.getloadavg()[0],
        "geometric_mean_of_ratios": summary.geometric_mean(list(ratios.values())),
        "geometric_mean_of_ratios_of_best_rounds": summary.geometric_mean(list(of_best.values())),
        "models": rows,
    }


def print_reasons(runs):
    """Why there is no figure, each reason once."""
    models = {}
    for run in runs:
        for row in run["models"]:
            for name, found in row["runtimes"].items():
                if "why_not" in found:
                    models.setdefault((name, found["why_not"]), []).append(
                        f"{row['model']} on {run['threads']}"
                    )
    if models:
        print("\nNo figure:")
    everywhere = sum(len(run["models"]) for run in runs)
    for (name, reason), where in models.items():
        print(f"  {name}: {reason} ({'everywhere' if len(where) == everywhere else ', '.join(where)})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--zoo", type=Path, required=True, help="folder of the exported models")
    parser.add_argument("--scratch", type=Path, required=True, help="folder for what is made on the way")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--worker", action="append", default=[], metavar="RUNTIME=PROGRAM")
    parser.add_argument("--missing", action="append", default=[], metavar="RUNTIME=REASON")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--threads", type=int, action="append", required=True)
    parser.add_argument("--isa", help="ours runs with this; with avx2, peers are held to it where they can be")
    parser.add_argument("--dtype", choices=["f32", "int8"], default="f32", help="what the files compute in")
    parser.add_argument("models", nargs="+", metavar="MODEL[@BATCH]")
    arguments = parser.parse_args()
    bench = Bench(arguments)
    asked = [*bench.workers, *bench.missing]
    runtimes = [summary.US, *(r for r in [*RUNTIMES, "rten", "tract"] if r in asked)]

    started = os.getloadavg()
    print(f"load average {started[0]:.2f} {started[1]:.2f} {started[2]:.2f}")
    runs = [measure_all(bench, threads, runtimes) for threads in arguments.threads]
    print_reasons(runs)
    _, version = measure.run([bench.workers[summary.US], "--version"])
    versions = {summary.US: version.decode().split()[-1], **bench.versions}
    record = {
        "what": f"latency, load with first inference, and memory of the zoo, {arguments.dtype}, on the CPU; fresh processes in turns",
        **measure.machine(),
        "versions": {name: versions.get(name) for name in runtimes},
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
        "isa": arguments.isa,
        "runs": runs,
    }
    arguments.out.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    ended = os.getloadavg()
    print(f"load average {ended[0]:.2f} {ended[1]:.2f} {ended[2]:.2f}")
    failed = any("why_not" in row["runtimes"][summary.US] for run in runs for row in run["models"])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()

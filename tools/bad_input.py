"""Feed damaged and hostile files to `anychip` and check that it refuses them as it promises.

For every file: no crash (a signal, a Rust panic's exit status 101 or its text), no more than 20 s, no more
than 1 GB of memory; and for a file that cannot be valid exit status 1 with a diagnostic that names the
place. Files: a trained model cut at every 1/64 of its length and with flipped bytes; hand-made models with
a cycle, missing or mistyped values, absurd dimensions, external data outside the folder, endless recursion;
things that are no models; and `.npz` inputs with wrong names, dtypes, shapes and claims.

Usage: python tools/bad_input.py BINARY MODEL.onnx INPUTS.npz [--keep FOLDER]
"""

import argparse
import io
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bad_models import IMPOSSIBLE_TO_RUN, deep_nesting, hand_made, nested

SEED = 7
SECONDS = 20
MEMORY = 1_000_000_000
# A backstop, far above what is allowed, so that a fault cannot take the machine down before it is seen.
ADDRESS_SPACE = 16 * 2**30


@dataclass
class Case:
    name: str
    command: list  # after the binary
    fails: bool = True  # False: the damage may be harmless, only a crash is a fault
    mentions: tuple = ()  # each must stand in the diagnostics


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def claimed_npy(shape):
    """The header of an array of the given shape, and no data."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def zipped(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name + ".npy", data)
    return out.getvalue()


def wrong_arrays(pixels):
    """(name, bytes of an .npz, whether it must be refused, words the diagnostic must contain)."""
    good = npz(pixels=pixels)
    name, shape = "pixels", "8"
    return [
        ("missing-name", npz(other=pixels), True, [name]),
        ("wrong-dtype", npz(pixels=pixels.astype(np.int64)), True, [name, "f32", "i64"]),
        ("wrong-rank", npz(pixels=pixels.reshape(-1)), True, [name]),
        ("wrong-shape", npz(pixels=np.zeros((1, 1, 9, 9), np.float32)), True, [name, shape, "9"]),
        ("objects", npz(pixels=np.array([{}, []], dtype=object)), True, [name]),
        ("text", npz(pixels=np.array(["a", "b"])), True, [name]),
        ("empty-batch", npz(pixels=pixels[:0]), False, []),
        ("fortran-order", npz(pixels=np.asfortranarray(pixels)), False, []),
        ("big-endian", npz(pixels=pixels.astype(">f4")), False, []),
        ("claims-2^50-elements", zipped(pixels=claimed_npy((2**50, 1, 8, 8))), True, []),
        ("claims-overflow", zipped(pixels=claimed_npy((2**62, 2**62, 8, 8))), True, []),
        ("zip-bomb", zipped(pixels=claimed_npy((2**26, 1, 8, 8)) + bytes(2**28)), True, []),
        ("header-garbage", zipped(pixels=b"\x93NUMPY\x01\x00\xff\xff{'descr'"), True, []),
        ("not-a-zip", b"pixels = 1 2 3\n", True, []),
        ("empty", b"", True, []),
        *((f"cut-{i}-of-16", good[: len(good) * i // 16], True, []) for i in range(1, 16)),
    ]


def fitting(proto):
    """An array of ones for every input of a model, so that what is refused is the model. A shape that no
    array can have gets four elements."""
    arrays = {}
    for info in proto.graph.input:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        arrays[info.name] = np.ones(shape if np.prod(shape, dtype=float) < 1e6 else 4, np.float32)
    return arrays


def write_cases(folder, model_path, inputs_path):
    """Write every file and say what is to happen to it."""
    cases = []

    def add(name, data, fails=True, mentions=()):
        path = folder / f"{name}.onnx"
        path.write_bytes(data)
        cases.append(Case(name, ["inspect", str(path)], fails, tuple(mentions)))
        return path

    good = model_path.read_bytes()
    for part in range(64):
        add(f"cut-{part}-of-64", good[: len(good) * part // 64])
    dice = random.Random(SEED)
    for number in range(192):
        damaged = bytearray(good)
        # Half of the flips go where the structure is: large weights soak up most random positions.
        for _ in range(dice.choice([1, 1, 4, 32])):
            at = dice.randrange(len(good)) if number % 2 else dice.randrange(min(len(good), 6000))
            damaged[at] ^= 1 << dice.randrange(8)
        path = add(f"flip-{number}", bytes(damaged), fails=False)
        cases.append(Case(f"flip-{number} run", ["run", str(path), "--input", str(inputs_path)], fails=False))

    (folder / "short.bin").write_bytes(b"\0\0\0\0")
    outside = folder.parent / f"{folder.name}-outside.bin"
    outside.write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(outside)
    (folder / "zero-device").symlink_to("/dev/zero")  # endless when read
    for name, proto, mentions in hand_made():
        path = add(name, proto.SerializeToString(), name not in IMPOSSIBLE_TO_RUN, mentions)
        arrays = folder / f"{name}-inputs.npz"
        np.savez(arrays, **fitting(proto))
        command = ["run", str(path), "--input", str(arrays)]
        cases.append(Case(f"{name} run", command, mentions=tuple(mentions)))
    add("nested-if-30", nested(30).SerializeToString(), fails=False)
    add("nested-messages-100000", deep_nesting(100_000))
    add("empty", b"")
    add("jpeg", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + dice.randbytes(5000))
    add("text", b"this is not a model\n" * 50)
    add("zeros", bytes(100_000))
    add("noise", dice.randbytes(100_000))
    (folder / "folder.onnx").mkdir()
    cases.append(Case("folder", ["inspect", str(folder / "folder.onnx")]))
    cases.append(Case("absent", ["inspect", str(folder / "absent.onnx")], mentions=("absent.onnx",)))

    with np.load(inputs_path) as given:
        pixels = given["pixels"]
    for name, data, fails, mentions in wrong_arrays(pixels):
        path = folder / f"{name}.npz"
        path.write_bytes(data)
        command = ["run", str(model_path), "--input", str(path)]
        cases.append(Case(f"npz {name}", command, fails, tuple(mentions)))
    return cases


def limits():
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(binary, command):
    """Exit status (negative: a signal), diagnostics, peak memory, seconds."""
    with tempfile.TemporaryFile() as diagnostics:
        start = time.monotonic()
        child = subprocess.Popen(
            [binary, *command],
            stdout=subprocess.DEVNULL,
            stderr=diagnostics,
            stdin=subprocess.DEVNULL,
            preexec_fn=limits,  # noqa: PLW1509 (no threads here)
        )
        signal.signal(signal.SIGALRM, lambda *_: child.kill())
        signal.alarm(SECONDS)
        _, status, usage = os.wait4(child.pid, 0)
        signal.alarm(0)
        child.returncode = os.waitstatus_to_exitcode(status)
        diagnostics.seek(0)
        text = diagnostics.read(1 << 20).decode(errors="replace")
        return child.returncode, text, usage.ru_maxrss * 1024, time.monotonic() - start


def faults(case, status, text, peak, seconds):
    """What is wrong with how a file was taken; empty when all is well."""
    found = []
    if status < 0:
        found.append("too slow" if seconds >= SECONDS else f"died of signal {-status}")
    elif status not in (0, 1):
        found.append(f"exit status {status}")
    if "panicked at" in text:
        found.append("panicked")
    if peak > MEMORY:
        found.append(f"{peak / 1e6:.0f} MB of memory")
    if case.fails and status == 0:
        found.append("was accepted")
    if status == 1 and not text.strip():
        found.append("no diagnostic")
    if case.fails and status == 1:
        found += [f"the diagnostic does not mention `{w}`" for w in case.mentions if w not in text]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("binary", "model", "inputs"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--keep", type=Path, help="write the files here and leave them")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.keep or Path(scratch, "files")
        folder.mkdir(parents=True)
        cases = write_cases(folder, arguments.model.resolve(), arguments.inputs.resolve())
        wrong, largest, slowest, accepted = 0, 0, 0.0, 0
        for case in cases:
            status, text, peak, seconds = run(arguments.binary.resolve(), case.command)
            found = faults(case, status, text, peak, seconds)
            largest, slowest = max(largest, peak), max(slowest, seconds)
            accepted += status == 0
            if found:
                wrong += 1
                first = text.strip().splitlines()[0][:200] if text.strip() else ""
                print(f"FAIL {case.name}: {'; '.join(found)}   {first}")
    print(
        f"{len(cases) - wrong} passed, {wrong} failed, 0 skipped: {accepted} of the harmless ones accepted, "
        f"at most {largest / 1e6:.0f} MB and {slowest:.1f} s a file (flips seeded with {SEED})"
    )
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
